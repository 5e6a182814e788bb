"""OpenGVLab's own InternVL class: the trees `internvl_chat` (up to InternVL3) and
`internvl_chat_gpt_oss` (InternVL3.5), and the same class loaded as remote code.
"""

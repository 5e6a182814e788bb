"""The training scripts of OpenGVLab's `internvl_chat` and `internvl_chat_gpt_oss` trees."""

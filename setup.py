"""Packaging. Ranges are wide on purpose: the plugin is attached to hosts that pin their own stack.

transformers 4.37.2 / peft 0.10 are what the internvl_chat host pins; native InternVL needs 4.55.
Heavy packages are imported by the function that needs them, so a range that admits an old version
does not mean every feature runs on it.
"""

from pathlib import Path

from setuptools import find_packages, setup

REQUIRED = [
    "numpy>=1.23",
    "pillow>=10.1",
    "pyyaml>=6.0",
    "torch>=2.1",
    "safetensors>=0.4",
    "transformers>=4.37.2",
    "peft>=0.10",
    "accelerate>=0.26",
    "tqdm>=4.64",
    "decord>=0.6",
    "imageio>=2.31",
    "imageio-ffmpeg>=0.4.9",
    "pycocotools>=2.0.7",
    "scipy>=1.10",  # pieces of masks, optimal matching
]

EXTRAS = {
    # pulls torchvision; the first release with the 2.1 checkpoints on PyPI
    "sam2": ["sam2>=1.1.0"],
    "qlora": ["bitsandbytes>=0.43"],
    "deepspeed": ["deepspeed>=0.14"],
    "log": ["tensorboard>=2.13"],
    "remote": ["fsspec>=2023.1"],  # s3:// and other addresses of clips
    "eval": ["pycocoevalcap>=1.2"],  # caption metrics, which also need Java
    "dev": ["pytest>=7.4", "hypothesis>=6.90", "ruff>=0.6", "psutil>=5.9"],
}
EXTRAS["all"] = [
    package for name in ("sam2", "qlora", "deepspeed", "log", "eval") for package in EXTRAS[name]
]

setup(
    name="sama_plugin",
    version="0.1.0",
    description="Referring and grounding in videos for InternVL-style chat models, by a plugin",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=find_packages(include=["sama_plugin", "sama_plugin.*"]),
    include_package_data=True,
    package_data={"sama_plugin": ["assets/**/*", "assets/*"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["sama = sama_plugin.cli:main"],
        "lmms_eval.models": ["sama = sama_plugin.bridges.lmms_eval:manifest"],
    },
)

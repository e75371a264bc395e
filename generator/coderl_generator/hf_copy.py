"""A copy of a GGUF model in Hugging Face's form, for backends and trainers that read no GGUF.

`python -m coderl_generator.hf_copy MODEL.gguf FOLDER` needs torch, transformers and gguf (coderl[train]). The weights are
unpacked from their quantisation and saved as bfloat16: the copy writes nearly what the GGUF writes, not letter by letter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from coderl_generator.errors import BackendUnavailable, GeneratorError, ModelDamaged
from coderl_generator.models import find_model


def hf_copy(gguf: Path, folder: Path) -> Path:
    """Write the copy and return its folder; at once where it is there. The folder appears when it is complete.

    Raises `ModelMissing`, `ModelDamaged` and `BackendUnavailable` (a library is missing).
    """
    if (folder / "config.json").is_file():
        return folder
    find_model(gguf.parent, str(gguf))
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
        from transformers.utils import logging
    except ImportError as error:
        raise BackendUnavailable(f"torch and transformers cannot be imported ({error}); install coderl[train]") from error
    logging.disable_progress_bar()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".hf-copy-", dir=folder.parent) as scratch:
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            unpacked = GgufConfig(dequantize=True)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, quantization_config=unpacked, dtype=torch.bfloat16
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelDamaged(f"{gguf} cannot be loaded by transformers: {error}") from error
        # The weights are unpacked; with the entry that says how they were packed, no other program would load them.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        complete = Path(scratch) / "model"
        model.save_pretrained(complete)
        tokenizer.save_pretrained(complete)
        complete.rename(folder)
    return folder


def main() -> int:
    """Exit code 0, or 2 with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m coderl_generator.hf_copy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gguf", type=Path, help="a GGUF file")
    parser.add_argument("folder", type=Path, help="the folder to make")
    given = parser.parse_args()
    try:
        sys.stdout.write(f"{hf_copy(given.gguf, given.folder)}\n")
    except GeneratorError as error:
        sys.stderr.write(f"{error}.\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

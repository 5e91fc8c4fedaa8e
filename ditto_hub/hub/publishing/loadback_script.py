"""Load a published adapter as a stranger would and compare its logits with the run's probe.

A script of its own for a fresh process: plain torch, transformers and peft, nothing of ditto-hub.
The question comes as JSON on stdin (so that no token stands in a command line or a file), the
answer goes as JSON to stdout.
"""

import json
import os
import sys

question = json.load(sys.stdin)
for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
    os.environ.pop(name, None)  # in another environment, which a caller may have started
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
os.environ["HF_HOME"] = question["home"]  # empty: what is loaded comes from the Hub
if question["endpoint"]:
    os.environ["HF_ENDPOINT"] = question["endpoint"]

import peft  # noqa: E402
import safetensors  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402


def largest_difference(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return max |mine - theirs| over the larger of 1 and max |theirs|; inf where one is NaN."""
    gap = (mine - theirs).abs().max() / theirs.abs().max().clamp(min=1)
    return float(gap) if torch.isfinite(gap) else float("inf")


def last_logits(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return (R, V) logits after each row's last token, one row at a time, without padding."""
    rows = []
    for row, kept in zip(ids, mask.bool(), strict=True):
        tokens = row[kept][None]  # (1, L)
        out = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
        rows.append(out.logits[0, -1].float())
    return torch.stack(rows)


def main() -> dict[str, object]:
    """Load base and adapter, and compare."""
    with safetensors.safe_open(question["probe"], framework="pt") as file:
        probe = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        dtype = (file.metadata() or {}).get("dtype", "float32")
    token = question["token"] or False
    base = transformers.AutoModelForCausalLM.from_pretrained(
        question["base"],
        revision=question["base_revision"] or "main",
        token=token,
        trust_remote_code=False,
        use_safetensors=True,
    ).to(getattr(torch, dtype))
    model = peft.PeftModel.from_pretrained(
        base, question["repo"], revision=question["commit"], token=token, use_safetensors=True
    ).eval()
    ids, mask = probe["input_ids"], probe["attention_mask"]
    with torch.no_grad():
        on = last_logits(model, ids, mask)
        with model.disable_adapter():
            off = last_logits(model, ids, mask)
    return {
        "on": largest_difference(on, probe["adapter_on"]),
        "off": largest_difference(off, probe["adapter_off"]),
        "effect": largest_difference(probe["adapter_on"], probe["adapter_off"]),
        "dtype": dtype,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main()) + "\n")

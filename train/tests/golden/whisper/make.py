"""Makes the tiny Whisper encoder of the teacher's test, and what Hugging Face computes with it.

    python3.11 -m venv venv-whisper
    venv-whisper/bin/pip install transformers==5.24.0 torch==2.11.0
    venv-whisper/bin/python make.py

Writes beside itself:

- encoder.safetensors: an encoder with random weights in float16, two layers of two heads, which
  hears 1.2 s of 8 mel bands;
- expected.safetensors: features of that size, the encoder's output and both attention maps; and
  samples with the features of Whisper's own extractor (80 bands, no padding to 30 s).
"""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

HERE = pathlib.Path(__file__).resolve().parent
SAMPLES = 9_437


def main() -> None:
    torch.manual_seed(21)
    torch.set_num_threads(1)
    config = WhisperConfig(
        num_mel_bins=8,
        d_model=128,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=48,
        max_source_positions=60,
        attn_implementation="eager",
    )
    encoder = WhisperEncoder(config).eval()
    for name, tensor in sorted(encoder.state_dict().items()):
        noise = torch.randn_like(tensor)
        if tensor.dim() > 1:
            value = noise * (1.5 / tensor[0].numel() ** 0.5)
        elif name.endswith("weight"):
            value = 1 + noise * 0.2
        else:
            value = noise * 0.2
        tensor.copy_(value.half())
    features = torch.randn(1, 8, 120)
    with torch.no_grad():
        output = encoder(features, output_attentions=True)
    weights = {f"model.encoder.{k}": v.half().contiguous() for k, v in encoder.state_dict().items()}
    save_file(weights, str(HERE / "encoder.safetensors"))

    t = torch.arange(SAMPLES) / 16000
    wave = 0.3 * torch.sin(2 * torch.pi * (300 + 1500 * t) * t) + torch.randn(SAMPLES) * 0.2 * t
    wave[3000:4000] = 0
    samples = (wave.clamp(-1, 1) * 32767).round().to(torch.int16)
    extractor = WhisperFeatureExtractor(feature_size=80)
    heard = extractor(
        (samples.float() / 32768).numpy(), sampling_rate=16000, padding=False, return_tensors="pt"
    )
    save_file(
        {
            "features": features.transpose(1, 2).contiguous(),
            "hidden": output.last_hidden_state.contiguous(),
            "attention.0": output.attentions[0].contiguous(),
            "attention.1": output.attentions[1].contiguous(),
            "samples": samples,
            "log_mel": heard.input_features[0].T.contiguous(),
        },
        str(HERE / "expected.safetensors"),
    )
    print({k: tuple(v.shape) for k, v in output.items() if hasattr(v, "shape")},
          heard.input_features.shape)


if __name__ == "__main__":
    main()

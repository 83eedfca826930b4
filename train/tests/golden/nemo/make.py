"""Makes the tiny NeMo model of the import test, and what NeMo itself computes with it.

    python3.11 -m venv venv-nemo
    venv-nemo/bin/pip install 'nemo_toolkit[asr]==3.0.0' torch==2.11.0
    venv-nemo/bin/python make.py

Writes beside itself:

- tiny.nemo: an EncDecCTCModelBPE with random weights, saved by NeMo's own `save_to`;
- expected.safetensors: two utterances of different lengths (int16), NeMo's features for them, its
  log-probabilities, and the last layer's attention map after softmax.

All parameters are random, biases, norms and batch statistics too, so that none can be forgotten
without a difference.
"""

import json
import pathlib
import tempfile

import sentencepiece
import torch
from nemo.collections.asr.models import EncDecCTCModelBPE
from omegaconf import OmegaConf
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
LENGTHS = [14_000, 9_437]


def tokenizer(folder: pathlib.Path) -> None:
    """A SentencePiece model of 24 pieces, in the layout that NeMo expects."""
    words = "the cat sat on a mat and the dog ran to the tree then a hat fell on the cat".split()
    text = folder / "text"
    text.write_text("\n".join(" ".join(words[i:] + words[:i]) for i in range(len(words))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=24,
        bos_id=-1,
        eos_id=-1,
        normalization_rule_name="identity",
    )
    pieces = [line.split("\t")[0] for line in (folder / "tokenizer.vocab").read_text().splitlines()]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")


def configuration(folder: pathlib.Path) -> dict:
    """NeMo's conformer_ctc_bpe.yaml in all but its sizes."""
    return {
        "sample_rate": 16000,
        "log_prediction": False,
        "ctc_reduction": "mean_volume",
        "skip_nan_grad": False,
        "train_ds": None,
        "validation_ds": None,
        "test_ds": None,
        "tokenizer": {"dir": str(folder), "type": "bpe"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": 80,
            "n_fft": 512,
            "log": True,
            "frame_splicing": 1,
            "dither": 0.00001,
            "pad_to": 0,
            "pad_value": 0.0,
        },
        "spec_augment": {
            "_target_": "nemo.collections.asr.modules.SpectrogramAugmentation",
            "freq_masks": 2,
            "time_masks": 5,
            "freq_width": 27,
            "time_width": 0.05,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": 80,
            "feat_out": -1,
            "n_layers": 2,
            "d_model": 24,
            "subsampling": "striding",
            "subsampling_factor": 4,
            "subsampling_conv_channels": -1,
            "causal_downsampling": False,
            "ff_expansion_factor": 4,
            "self_attention_model": "rel_pos",
            "n_heads": 4,
            "att_context_size": [-1, -1],
            "att_context_style": "regular",
            "xscaling": True,
            "untie_biases": True,
            "pos_emb_max_len": 5000,
            "conv_kernel_size": 31,
            "conv_norm_type": "batch_norm",
            "conv_context_size": None,
            "dropout": 0.1,
            "dropout_pre_encoder": 0.1,
            "dropout_emb": 0.0,
            "dropout_att": 0.1,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": 24,
            "num_classes": -1,
            "vocabulary": [],
        },
        "optim": {"name": "adamw", "lr": 2.0},
    }


def randomise(model: torch.nn.Module) -> None:
    """Every parameter and batch statistic, with sizes as in a trained model."""
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith("preprocessor") or name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn_like(tensor)
        if name.endswith("running_var"):
            value = 0.5 + noise.abs() * 0.5
        elif name.endswith(("pos_bias_u", "pos_bias_v")):
            value = noise * 0.3
        elif tensor.dim() > 1:
            value = noise * (1.5 / tensor[0].numel() ** 0.5)
        elif name.endswith("weight"):
            value = 1 + noise * 0.2
        else:
            value = noise * 0.2
        tensor.copy_(value)


def audio() -> torch.Tensor:
    """Tones that glide over noise that swells, with a silent stretch; (2, samples) int16."""
    waves = torch.zeros(len(LENGTHS), max(LENGTHS))
    for i, length in enumerate(LENGTHS):
        t = torch.arange(length) / 16000
        tone = torch.sin(2 * torch.pi * (300 + 900 * i + 1500 * t) * t)
        noise = torch.randn(length) * (0.02 + 0.2 * t)
        waves[i, :length] = 0.3 * tone + noise
    waves[0, 4000:5000] = 0
    return (waves.clamp(-1, 1) * 32767).round().to(torch.int16)


def main() -> None:
    torch.manual_seed(20)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tokenizer(folder)
        model = EncDecCTCModelBPE(cfg=OmegaConf.create(configuration(folder)))
        randomise(model)
        model.eval()
        model.save_to(str(HERE / "tiny.nemo"))

    # What the last layer's attention gives to its dropout is the map after softmax.
    maps = []
    dropout = model.encoder.layers[-1].self_attn.dropout
    dropout.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].clone()))
    samples = audio()
    lengths = torch.tensor(LENGTHS)
    with torch.no_grad():
        features, feature_lengths = model.preprocessor(
            input_signal=samples.float() / 32768, length=lengths
        )
        encoded, encoded_lengths = model.encoder(audio_signal=features, length=feature_lengths)
        log_probs = model.decoder(encoder_output=encoded)

    parameters = sum(p.numel() for p in model.parameters())
    save_file(
        {
            "samples": samples,
            "sample_lengths": lengths,
            "features": features.contiguous(),
            "feature_lengths": feature_lengths.to(torch.int64),
            "log_probs": log_probs.contiguous(),
            "lengths": encoded_lengths.to(torch.int64),
            "attention": maps[0].contiguous(),
        },
        str(HERE / "expected.safetensors"),
        metadata={
            "parameters": str(parameters),
            "tokens": json.dumps(list(model.decoder.vocabulary)),
        },
    )
    print(parameters, "parameters,", encoded_lengths.tolist(), "frames")


if __name__ == "__main__":
    main()

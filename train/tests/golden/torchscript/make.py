"""Makes the scripted teacher of the teachers' test, teacher.pt, with `pip install torch==2.11.0`."""

import pathlib

import torch


class Teacher(torch.nn.Module):
    """Every 40 ms of samples is a frame; frames attend to those that sound like them."""

    def forward(
        self, samples: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        frames = samples.unflatten(1, [-1, 640])
        inside = torch.arange(frames.size(1)) < (lengths // 640).unsqueeze(1)
        scores = torch.matmul(frames, frames.transpose(1, 2))
        scores = scores.masked_fill(~inside.unsqueeze(1), -10000.0)
        return frames[:, :, :7].log_softmax(-1), scores.softmax(-1).unsqueeze(1)


torch.jit.script(Teacher()).save(str(pathlib.Path(__file__).resolve().parent / "teacher.pt"))

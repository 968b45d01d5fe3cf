"""One command for the day a GPU is at hand: ``python -m fastgshare.gpucheck``; see docs/gpu-check.md."""

"""`python -m tests.hosts.internvl_chat.gloo ...`: the plugin's launcher where gloo can average.

The gpt_oss tree averages its loss over ranks by an operation that only NCCL has, so its own
training cannot run on a CPU. This belongs to the test's environment, not to the plugin.
"""

from __future__ import annotations

import sys

import torch.distributed as dist

from sama_plugin.__main__ import main

_all_reduce = dist.all_reduce


def all_reduce(tensor, op=dist.ReduceOp.SUM, *args, **kwargs):
    if op != dist.ReduceOp.AVG:
        return _all_reduce(tensor, op, *args, **kwargs)
    _all_reduce(tensor, dist.ReduceOp.SUM, *args, **kwargs)
    tensor.div_(dist.get_world_size())


if __name__ == "__main__":
    dist.all_reduce = all_reduce
    sys.exit(main())

"""Tensors through torch's queues: what the receiver writes is seen by the sender, since they share the memory."""

import loaded  # noqa: F401
import torch
import torch.multiprocessing as mp


def add(there, back):
    while (tensor := there.get()) is not None:
        tensor += 1
        back.put("done")


def main():
    context = mp.get_context("spawn")
    for kind in (context.Queue, context.SimpleQueue):
        there, back = kind(), kind()
        process = context.Process(target=add, args=(there, back))
        process.start()
        tensor = torch.zeros(1000).share_memory_()
        for _ in range(3):
            there.put(tensor)
            print(back.get(), tensor.sum().item())
        there.put(None)
        process.join()
        print(process.exitcode)


if __name__ == "__main__":
    main()

"""Environments of reinforcement learning, each in a process, their observations in shared memory."""

import gymnasium
import loaded  # noqa: F401
import numpy as np


def main():
    for method in ("fork", "spawn", "forkserver"):
        for shared in (True, False):
            environments = gymnasium.make_vec(
                "CartPole-v1",
                num_envs=3,
                vectorization_mode="async",
                vector_kwargs={"context": method, "shared_memory": shared},
            )
            observations, _ = environments.reset(seed=7)
            total = np.zeros(3)
            for step in range(100):
                observations, rewards, *_ = environments.step(np.array([step % 2, step % 3 % 2, 1]))
                total += rewards
            print(method, shared, total.tolist(), observations.round(4).tolist())
            environments.close()


if __name__ == "__main__":
    main()

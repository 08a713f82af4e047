"""The simulation's rules are those of the installed Ray: the same targets for the same wishes at the same times."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.ray import real_ray

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(300)]

COMPARE = """
import json, random
from ray.serve.autoscaling_policy import _apply_delay_logic
from ray.serve.config import AutoscalingConfig
from serve_runtime.autoscaling.simulation import Delays, RayRules

differences = changes = 0
for seed in range(200):
    rng = random.Random(seed)
    up, down = rng.choice([0, 1, 3.5, 30]), rng.choice([0, 2, 10, 60])
    config = AutoscalingConfig(min_replicas=0, max_replicas=50, upscale_delay_s=up, downscale_delay_s=down)
    mine = Delays(RayRules(0, 50, up, down))
    state, target, now, wanted = {}, 3, 1000.0, 3
    for _ in range(400):
        now += rng.choice([0.1, 0.1, 0.1, 1.0])
        wanted = rng.choice([wanted] * 12 + [target, 0, 1, rng.randrange(50)])
        theirs, state = _apply_delay_logic(wanted, target, config, state, _now=now)
        differences += mine.target(wanted, target, 1, now) != theirs
        changes += theirs != target
        target = theirs
print(json.dumps([differences, changes]))
"""


def test_delays_are_those_of_ray() -> None:
    done = subprocess.run(
        [real_ray.ray_python(), "-c", COMPARE], cwd=real_ray.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    differences, changes = json.loads(done.stdout.splitlines()[-1])
    assert differences == 0
    assert changes > 1000

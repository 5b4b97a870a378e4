"""Train the tiny model from Python, judge it, and read one reply: `python recipes/train.py`."""

import sys

from icpo_lite import classify, evaluate, grade, load_recipe, train

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 80
recipe = load_recipe(
    "tiny",
    max_steps=steps,
    compare={},  # no RLVR run beside it
    evaluation={"problems": 10, "runs": 2},
    output_dir="runs/from-python",
)
run = train(recipe)

figures = evaluate(run, settings=("full", "sharded"), problems=10, runs=2)
for name, found in figures["settings"].items():
    print(f"{name}: {found['P']['value']:.1f} of 100 points")
print(classify("How many apples does Ann buy?"))
print(grade("3 + 4 = 7. The answer is 7.", "7"))

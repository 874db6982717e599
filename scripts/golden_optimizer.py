#!/usr/bin/env python3
"""Writes tests/golden/optimizer.h: ten steps of each optimizer, and the maps of 8-bit codes.

    python3 scripts/golden_optimizer.py | clang-format --assume-filename=x.h > tests/golden/optimizer.h     # needs torch

Nobody needs Python to build or to test. AdamW and SGD are PyTorch's, in double precision, and so is the clipping. Lion is the
algorithm of arXiv 2302.06675, Muon Keller Jordan's (kellerjordan.github.io/posts/muon) with all in double; torch.optim.Muon,
whose iterations run in bf16, is asked whether it agrees within what that costs. The maps are bitsandbytes'
create_dynamic_map(), written down again.
"""

import torch

torch.manual_seed(6)
torch.set_default_dtype(torch.float64)

STEPS = 10
# As tests/test_optimizer.c has them: two matrices (rows, columns), which decay, and a norm, which does not.
SHAPES = [(5, 8), (9, 4), (7,)]


def draw(*shape, spread=1.0):
    return (torch.randn(*shape) * spread * 1000).round() / 1000


def emit(name, x, comment):
    print(f"// {comment}")
    print(f"static const double {name}[{len(x)}] = {{")
    print(", ".join(repr(float(v)) for v in x) + ",")
    print("};")


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors]).tolist()


START = [draw(*s) for s in SHAPES]
# The sizes of gradients change from step to step, so that some are clipped.
GRADIENTS = [[draw(*s, spread=0.05 * (i % 4 + 1)) for s in SHAPES] for i in range(STEPS)]


def run(step, clip=None):
    values = [v.clone() for v in START]
    for t, gradients in enumerate(GRADIENTS):
        for v, g in zip(values, gradients):
            v.grad = g.clone()
        if clip:
            torch.nn.utils.clip_grad_norm_(values, clip)
        step(values, t)
    return flat(values)


def torch_optimizer(make, decay):
    """PyTorch's optimizer over the values of a run; the last one does not decay."""
    made = []

    def step(values, t):
        if t == 0:
            made.append(make([{"params": values[:2], "weight_decay": decay}, {"params": values[2:], "weight_decay": 0}]))
        made[0].step()

    return step


def lion(rate, beta1, beta2, decay):
    moments = [torch.zeros_like(v) for v in START]

    def step(values, t):
        for i, (v, m) in enumerate(zip(values, moments)):
            update = torch.sign(beta1 * m + (1 - beta1) * v.grad)
            v -= rate * (update + (decay if i < 2 else 0) * v)
            m.mul_(beta2).add_((1 - beta2) * v.grad)

    return step


def orthogonal(g, steps):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(rate, momentum, decay, nesterov, side_rate, beta1, beta2, eps):
    moments = [torch.zeros_like(v) for v in START]
    side = []

    def step(values, t):
        if t == 0:
            side.append(torch.optim.AdamW(values[2:], lr=rate * side_rate, betas=(beta1, beta2), eps=eps, weight_decay=0))
        for v, m in zip(values[:2], moments):
            m.lerp_(v.grad, 1 - momentum)
            update = orthogonal(v.grad.lerp(m, momentum) if nesterov else m, 5)
            v.mul_(1 - rate * decay)
            v -= rate * max(1, v.shape[0] / v.shape[1]) ** 0.5 * update
        side[0].step()

    return step


def check_muon(ours):
    values = [v.clone() for v in START[:2]]
    optimizer = torch.optim.Muon(values, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    for gradients in GRADIENTS:
        for v, g in zip(values, gradients):
            v.grad = g.clone()
        optimizer.step()
    theirs = torch.tensor(flat(values))
    apart = (torch.tensor(ours)[: len(theirs)] - theirs).norm() / (theirs - torch.tensor(flat(START[:2]))).norm()
    assert apart < 0.02, apart


def dynamic_map(signed, decades=7, bits=8):
    numbers = []
    for i in range(decades):
        steps = 2 ** (i + bits - 1 - decades) if signed else 2 ** (i + bits - decades)
        ends = torch.linspace(0.1, 1, steps + 1)
        middles = 10 ** (i - decades + 1) * (ends[:-1] + ends[1:]) / 2
        numbers += middles.tolist()
        if signed:
            numbers += (-middles).tolist()
    numbers += [0, 1.0]
    assert len(numbers) == 2**bits
    return sorted(numbers)


print("// tests/golden/optimizer.h -- made by scripts/golden_optimizer.py; do not edit.")
print("#ifndef TESTS_GOLDEN_OPTIMIZER_H")
print("#define TESTS_GOLDEN_OPTIMIZER_H")
print()
emit("golden_start", flat(START), "two matrices, (5, 8) and (9, 4), and a norm (7)")
emit("golden_gradients", [v for g in GRADIENTS for v in flat(g)], "of ten steps")
adamw = torch.optim.AdamW
emit(
    "golden_adamw",
    run(torch_optimizer(lambda groups: adamw(groups, lr=0.01, betas=(0.9, 0.999), eps=1e-8), 0.1)),
    "after ten steps: AdamW, rate 0.01, betas 0.9 and 0.999, eps 1e-8, decay 0.1",
)
emit(
    "golden_adamw_clipped",
    run(torch_optimizer(lambda groups: adamw(groups, lr=0.003, betas=(0.8, 0.95), eps=1e-3), 0.5), clip=1.0),
    "rate 0.003, betas 0.8 and 0.95, eps 1e-3, decay 0.5, gradients clipped at 1",
)
for nesterov in (False, True):
    emit(
        "golden_sgd_nesterov" if nesterov else "golden_sgd",
        run(torch_optimizer(lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=nesterov), 0.01)),
        "SGD, rate 0.05, momentum 0.9, decay 0.01" + (", Nesterov" if nesterov else ""),
    )
emit("golden_lion", run(lion(0.003, 0.9, 0.99, 0.3)), "Lion, rate 0.003, betas 0.9 and 0.99, decay 0.3")
result = run(muon(0.02, 0.95, 0.1, True, 0.15, 0.9, 0.95, 1e-8))
check_muon(result)
emit("golden_muon", result, "Muon, rate 0.02, momentum 0.95, Nesterov, decay 0.1; the norm by AdamW, rate 0.003, betas 0.9 and 0.95")
emit("golden_map_signed", dynamic_map(True), "bitsandbytes' dynamic map, sorted")
emit("golden_map_unsigned", dynamic_map(False), "the unsigned one")
print()
print("#endif")

"""Prints the numbers of TestAdamWAgreesWithPyTorch and TestClipAgreesWithPyTorch. Run by hand: python3 adamw.py"""
import torch

torch.set_default_dtype(torch.float64)
start = [0.5, -1.25, 2.0, 0.0]
p = torch.tensor(start, requires_grad=True)
q = torch.tensor([3.0, -0.125], requires_grad=True)
opt = torch.optim.AdamW([p, q], lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)
for step in range(1, 5):
    p.grad = torch.tensor([0.1 * step, -0.5, 0.0, 2.0 / step])
    q.grad = torch.tensor([-1.0, 0.25 * step])
    for group in opt.param_groups:
        group["lr"] = 0.01 * step
    opt.step()
    print("step", step, [repr(v) for v in p.tolist() + q.tolist()])

p.grad = torch.tensor([3.0, -4.0, 0.0, 0.0])
q.grad = torch.tensor([12.0, 0.0])
norm = torch.nn.utils.clip_grad_norm_([p, q], 2.5)
print("norm", repr(norm.item()), [repr(v) for v in p.grad.tolist() + q.grad.tolist()])

#include <set>

#include "attention.h"
#include "evaluate.h"

namespace {

Results evaluate(const Op& op, const Arguments& in, const Books& books) {
  if (op.name == "custom_call") return attend(op, in, books);
  for (auto f : {movement, indexed, product, reduction, elementwise})
    if (Results out = f(op, in, books); !out.empty()) return out;
  op.refuse("the operation is checked and not evaluated");
}

void region(const Region& r, std::map<int, Tensor>& values, const Books& books) {
  for (const Op& op : r.ops) {
    if (!op.live) continue;
    Arguments in;
    for (int v : op.operands) in.push_back(values.at(v));
    Results out = evaluate(op, in, books);
    in.clear();
    for (size_t i = 0; i < out.size(); i++) values[op.results[i]] = out[i];
    for (int v : op.lastUses) values.erase(v);
  }
}

}  // namespace

Results run(const Program& p, Arguments in, const Books& books) {
  std::map<int, Tensor> values;
  for (size_t i = 0; i < in.size(); i++) values[p.main.arguments[i]] = in[i];
  in.clear();
  region(p.main, values, books);
  Results out;
  for (int v : p.main.returned) out.push_back(values.at(v));
  return out;
}

// plan goes backwards through main: an operation of which nobody reads a result is dead, and a value that nobody has read
// yet is used for the last time. What is returned lives on.
void plan(Program& p) {
  std::set<int> read(p.main.returned.begin(), p.main.returned.end());
  for (size_t i = p.main.ops.size(); i-- > 0;) {
    Op& op = p.main.ops[i];
    op.live = false;
    for (int v : op.results) op.live |= read.count(v) != 0;
    if (!op.live) continue;
    for (int v : op.results)
      if (!read.count(v)) op.lastUses.push_back(v);
    for (int v : op.operands)
      if (read.insert(v).second) op.lastUses.push_back(v);
  }
}

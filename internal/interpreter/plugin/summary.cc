// What a device would be asked to do, in one line of name=value. Dead operations count for nothing but themselves.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "program.h"

namespace {

struct Sums {
  std::map<std::string, int64_t> of;
  std::string text() const {
    std::ostringstream out;
    for (auto& [name, n] : of) out << " " << name << "=" << n;
    return out.str();
  }
};

int64_t flop(const Op& op) {
  auto n = op.record("dot_dimension_numbers", "dot", {"lhs_batching_dimensions", "rhs_batching_dimensions",
                                                      "lhs_contracting_dimensions", "rhs_contracting_dimensions"});
  int64_t all = 2 * op.resultTypes[0].size();
  for (int64_t d : n["lhs_contracting_dimensions"]) all *= op.operandTypes[0].dims[d];
  return all;
}

void count(const Op& op, const std::set<int>& given, Sums& sums) {
  const std::string& n = op.name;
  int64_t bytes = 0;
  for (const Type& t : op.resultTypes) bytes += t.bytes();
  auto kind = [](const Type& t) { return std::string(nameOf(t.kind)); };
  if (n == "dot_general") {
    sums.of["flop." + kind(op.operandTypes[0]) + "*" + kind(op.operandTypes[1]) + ">" + kind(op.resultTypes[0])] += flop(op);
  } else if (n == "convert") {
    std::string what = kind(op.operandTypes[0]) + ">" + kind(op.resultTypes[0]);
    sums.of["convert." + what] += bytes;
    if (given.count(op.operands[0])) sums.of["convert.argument." + what] += bytes;
  } else if (n == "transpose") {
    Dims order = op.array("permutation");
    if (std::is_sorted(order.begin(), order.end())) return;  // nothing moves
    sums.of[n] += bytes;
    if (given.count(op.operands[0])) sums.of["transpose.argument"] += bytes;
  } else if (n == "gather" || n == "scatter" || n == "concatenate" || n == "constant" || n == "custom_call") {
    sums.of[n] += bytes;
    if (n == "scatter" && !op.truth("unique_indices")) sums.of["scatter.repeated"] += bytes;
  } else if (op.resultTypes[0].kind == Kind::f64 && n != "broadcast_in_dim" && n != "reshape" && n != "iota") {
    sums.of["f64." + n] += std::max(op.resultTypes[0].size(), op.operandTypes.empty() ? 0 : op.operandTypes[0].size());
  }
}

}  // namespace

std::string summarize(const Program& p) {
  Sums sums;
  int64_t live = 0;
  std::set<int> given(p.main.arguments.begin(), p.main.arguments.end());
  for (const Op& op : p.main.ops) {
    if (!op.live) {
      if (op.name == "dot_general") sums.of["flop.dead"] += flop(op);
      continue;
    }
    live++;
    if (op.name == "reshape" && given.count(op.operands[0])) given.insert(op.results[0]);
    count(op, given, sums);
  }
  auto bytes = [](const std::vector<Type>& types) {
    int64_t all = 0;
    for (const Type& t : types) all += t.bytes();
    return all;
  };
  std::ostringstream out;
  out << "name=" << p.name << " text=" << p.text.size() << " ops=" << live << " dead=" << p.main.ops.size() - live
      << " in=" << bytes(p.inputs()) << " out=" << bytes(p.outputs()) << sums.text();
  return out.str();
}

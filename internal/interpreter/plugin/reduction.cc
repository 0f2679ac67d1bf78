// reduce, and the regions that combine two values. A sum of half-precision numbers is kept in float32 and rounded once, as
// XLA's compilers do.
#include <algorithm>

#include "evaluate.h"

Combine::Combine(const Op& op, size_t values, Books b) : region(op.regions.at(0)), n(values), books(std::move(b)) {
  if (n != 1 || region.ops.size() != 1) return;
  const Op& only = region.ops[0];
  std::vector<int> operands = only.operands, arguments = region.arguments;
  std::sort(operands.begin(), operands.end());
  if (operands == arguments && only.results == region.returned) name = only.name;
}

void Combine::call(const std::vector<Tensor>& accumulated, int64_t at, const std::vector<Tensor>& values, int64_t from) const {
  Program p;
  p.main = region;
  Arguments in;
  for (auto [all, i] : {std::pair(&accumulated, at), std::pair(&values, from)})
    for (const Tensor& t : *all) {
      int64_t width = bytesOf(t.type.kind);
      in.push_back(make(books, Type{t.type.kind, {}}));
      std::memcpy(in.back().raw(), t.raw() + i * width, width);
    }
  Results out = run(p, std::move(in), books);
  for (size_t i = 0; i < n; i++) {
    int64_t width = bytesOf(out[i].type.kind);
    std::memcpy(accumulated[i].raw() + at * width, out[i].raw(), width);
  }
}

namespace {

// places gives for each element of the operand, row-major, the element of the result to which it belongs.
struct Places {
  Dims dims, stride;
  Places(const Op& op, const Type& in, const Type& out) : dims(in.dims), stride(in.dims.size(), 0) {
    Dims gone = op.array("dimensions"), own = rowMajor(out.dims);
    size_t next = 0;
    for (size_t d = 0; d < dims.size(); d++)
      if (std::find(gone.begin(), gone.end(), int64_t(d)) == gone.end()) stride[d] = own[next++];
  }
};

template <class T, class F> void fold(const Places& at, const Arguments& in, Tensor& out, F f) {
  using W = Wide<T>;
  std::vector<W> sums(out.type.size(), W(*in[1].as<T>()));
  const T* x = in[0].as<T>();
  walk(at.dims, at.stride, 0, [&](int64_t i, int64_t to) { sums[to] = f(sums[to], W(x[i])); });
  for (size_t i = 0; i < sums.size(); i++) out.as<T>()[i] = T(sums[i]);
}

bool simple(const std::string& name, const Places& at, const Arguments& in, Tensor& out) {
  bool done = true;
  with(out.type.kind, [&](auto as) {
    using T = typename decltype(as)::type;
    using W = Wide<T>;
    if constexpr (std::is_same_v<T, Truth>) {
      if (name == "or" || name == "maximum") fold<T>(at, in, out, [](bool x, bool y) { return x || y; });
      else if (name == "and" || name == "minimum") fold<T>(at, in, out, [](bool x, bool y) { return x && y; });
      else done = false;
    } else {
      if (name == "add") fold<T>(at, in, out, [](W x, W y) { return W(x + y); });
      else if (name == "multiply") fold<T>(at, in, out, [](W x, W y) { return W(x * y); });
      else if (name == "maximum") fold<T>(at, in, out, [](W x, W y) { return x > y || x != x ? x : y; });
      else if (name == "minimum") fold<T>(at, in, out, [](W x, W y) { return x < y || x != x ? x : y; });
      else done = false;
    }
  });
  return done;
}

}  // namespace

Results reduction(const Op& op, const Arguments& in, const Books& books) {
  if (op.name != "reduce") return {};
  size_t n = in.size() / 2;
  Combine combine(op, n, books);
  Places at(op, in[0].type, op.resultTypes[0]);
  Results out;
  for (const Type& t : op.resultTypes) out.push_back(make(books, t));
  if (n == 1 && simple(combine.simple(), at, in, out[0])) return out;
  for (size_t i = 0; i < n; i++) {
    int64_t width = bytesOf(out[i].type.kind);
    for (int64_t j = 0; j < out[i].type.size(); j++) std::memcpy(out[i].raw() + j * width, in[n + i].raw(), width);
  }
  Arguments values(in.begin(), in.begin() + n);
  walk(at.dims, at.stride, 0, [&](int64_t i, int64_t to) { combine.call(out, to, values, i); });
  return out;
}

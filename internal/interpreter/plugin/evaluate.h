// Evaluation: one operation after the other, each element by the operation's formula.
#pragma once

#include "program.h"

using Books = std::shared_ptr<Ledger>;

// Each evaluates the operations of its file and returns nothing for the others.
Results elementwise(const Op& op, const Arguments& in, const Books& books);
Results movement(const Op& op, const Arguments& in, const Books& books);
Results indexed(const Op& op, const Arguments& in, const Books& books);  // gather, scatter and dynamic slices
Results product(const Op& op, const Arguments& in, const Books& books);
Results reduction(const Op& op, const Arguments& in, const Books& books);

// run evaluates a program on its arguments, which it lets go as soon as nobody reads them.
Results run(const Program& p, Arguments in, const Books& books);

// Combine is a region that takes two scalars and gives one, for the elements of one type.
class Combine {
 public:
  Combine(const Op& op, size_t values, Books books);
  // simple is the operation, where the region is one on both arguments, and "" elsewhere.
  const std::string& simple() const { return name; }
  // call replaces the accumulated values by the region's results; of each there is one, at a place in the tensors.
  void call(const std::vector<Tensor>& accumulated, int64_t at, const std::vector<Tensor>& values, int64_t from) const;

 private:
  const Region& region;
  size_t n;
  Books books;
  std::string name;
};

// walk calls f(i, offset) for the i-th element of a block in row-major order; offset goes by the given strides.
template <class F> void walk(const Dims& dims, const Dims& stride, int64_t base, F f) {
  int64_t rank = int64_t(dims.size()), total = 1, i = 0;
  for (int64_t d : dims) total *= d;
  if (total == 0) return;
  if (rank == 0) return f(0, base);
  Dims at(rank, 0);
  int64_t inner = dims[rank - 1], step = stride[rank - 1], offset = base;
  for (;;) {
    for (int64_t j = 0; j < inner; j++) f(i++, offset + j * step);
    int64_t d = rank - 2;
    for (; d >= 0; d--) {
      offset += stride[d];
      if (++at[d] < dims[d]) break;
      offset -= stride[d] * dims[d];
      at[d] = 0;
    }
    if (d < 0) return;
  }
}

// withSize calls f(As<U>{}) for an unsigned integer of the size of a kind, for what only moves elements.
template <class F> void withSize(Kind k, F f) {
  switch (bytesOf(k)) {
    case 8: return f(As<uint64_t>{});
    case 4: return f(As<uint32_t>{});
    case 2: return f(As<uint16_t>{});
    default: return f(As<uint8_t>{});
  }
}

// dot_general. Both sides are laid out as [batch, rows, terms], so that each element is a sum over two contiguous rows; in
// half precision terms are multiplied and added up as float32 and the sum is rounded once.
#include <algorithm>

#include "evaluate.h"

namespace {

// Side is one operand: its dimensions by their part.
struct Side {
  Dims batch, rows, terms;
  Dims order() const {
    Dims all = batch;
    all.insert(all.end(), rows.begin(), rows.end());
    all.insert(all.end(), terms.begin(), terms.end());
    return all;
  }
};

Side side(const Tensor& t, const Dims& batch, const Dims& terms) {
  Side s{batch, {}, terms};
  for (int64_t d = 0; d < t.type.rank(); d++)
    if (std::find(batch.begin(), batch.end(), d) == batch.end() && std::find(terms.begin(), terms.end(), d) == terms.end())
      s.rows.push_back(d);
  return s;
}

int64_t size(const Tensor& t, const Dims& dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= t.type.dims[d];
  return n;
}

template <class T, class S> std::vector<S> laidOut(const Tensor& t, const Dims& order) {
  Dims own = rowMajor(t.type.dims), dims, stride;
  for (int64_t d : order) dims.push_back(t.type.dims[d]), stride.push_back(own[d]);
  std::vector<S> all(t.type.size());
  const T* x = t.as<T>();
  walk(dims, stride, 0, [&](int64_t i, int64_t from) { all[i] = S(x[from]); });
  return all;
}

// sum has sixteen partial sums, which the compiler keeps in vector registers.
template <class S> S sum(const S* a, const S* b, int64_t n) {
  S part[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; j++) part[j] += a[i + j] * b[i + j];
  for (int j = 0; i < n; i++, j++) part[j] += a[i] * b[i];
  for (int step = 8; step > 0; step /= 2)
    for (int j = 0; j < step; j++) part[j] += part[j + step];
  return part[0];
}

// multiply takes elements of type T, adds up as S and rounds to R.
template <class T, class S, class R> void multiply(const Arguments& in, const Side& l, const Side& r, Tensor& out) {
  std::vector<S> a = laidOut<T, S>(in[0], l.order()), b = laidOut<T, S>(in[1], r.order());
  int64_t batches = size(in[0], l.batch), m = size(in[0], l.rows), n = size(in[1], r.rows), k = size(in[0], l.terms);
  R* y = out.as<R>();
  const int64_t block = 32;  // rows of b that stay in the cache
  for (int64_t g = 0; g < batches; g++)
    for (int64_t from = 0; from < n; from += block)
      for (int64_t i = 0; i < m; i++)
        for (int64_t j = from; j < std::min(n, from + block); j++)
          y[(g * m + i) * n + j] = R(sum(&a[(g * m + i) * k], &b[(g * n + j) * k], k));
}

}  // namespace

Results product(const Op& op, const Arguments& in, const Books& books) {
  if (op.name != "dot_general") return {};
  auto n = op.record("dot_dimension_numbers", "dot", {"lhs_batching_dimensions", "rhs_batching_dimensions",
                                                      "lhs_contracting_dimensions", "rhs_contracting_dimensions"});
  Side l = side(in[0], n["lhs_batching_dimensions"], n["lhs_contracting_dimensions"]);
  Side r = side(in[1], n["rhs_batching_dimensions"], n["rhs_contracting_dimensions"]);
  Tensor out = make(books, op.resultTypes[0]);
  bool wide = out.type.kind != in[0].type.kind;
  with(in[0].type.kind, [&](auto as) {
    using T = typename decltype(as)::type;
    if constexpr (std::is_same_v<T, Bf16> || std::is_same_v<T, F16>) {
      if (wide) multiply<T, float, float>(in, l, r, out);
      else multiply<T, float, T>(in, l, r, out);
    } else if constexpr (std::is_floating_point_v<T>) {
      multiply<T, T, T>(in, l, r, out);
    } else if constexpr (!std::is_same_v<T, Truth>) {
      multiply<T, uint64_t, T>(in, l, r, out);
    }
  });
  return {out};
}

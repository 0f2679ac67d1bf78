// Operations that move elements and compute nothing.
#include <algorithm>

#include "evaluate.h"

namespace {

// pick fills out with elements of a, whose offset goes by stride from base.
void pick(const Tensor& a, const Dims& stride, int64_t base, Tensor& out) {
  withSize(a.type.kind, [&](auto as) {
    using U = typename decltype(as)::type;
    const U* x = a.as<U>();
    U* y = out.as<U>();
    walk(out.type.dims, stride, base, [&](int64_t i, int64_t offset) { y[i] = x[offset]; });
  });
}

void broadcast(const Op& op, const Tensor& a, Tensor& out) {
  Dims to = op.array("broadcast_dimensions"), own = rowMajor(a.type.dims), stride(out.type.rank(), 0);
  for (size_t i = 0; i < to.size(); i++)
    if (a.type.dims[i] > 1) stride[to[i]] = own[i];
  pick(a, stride, 0, out);
}

void transpose(const Op& op, const Tensor& a, Tensor& out) {
  Dims own = rowMajor(a.type.dims), stride;
  for (int64_t d : op.array("permutation")) stride.push_back(own[d]);
  pick(a, stride, 0, out);
}

void slice(const Op& op, const Tensor& a, Tensor& out) {
  Dims start = op.array("start_indices"), step = op.array("strides"), own = rowMajor(a.type.dims), stride;
  int64_t base = 0;
  for (size_t i = 0; i < start.size(); i++) {
    base += start[i] * own[i];
    stride.push_back(step[i] * own[i]);
  }
  pick(a, stride, base, out);
}

void concatenate(const Op& op, const Arguments& in, Tensor& out) {
  int64_t d = op.integer("dimension"), outer = 1, to = 0;
  for (int64_t i = 0; i < d; i++) outer *= out.type.dims[i];
  int64_t width = outer ? out.type.bytes() / outer : 0;
  for (const Tensor& a : in) {
    int64_t part = outer ? a.type.bytes() / outer : 0;
    for (int64_t i = 0; i < outer; i++) std::memcpy(out.raw() + i * width + to, a.raw() + i * part, part);
    to += part;
  }
}

void pad(const Op& op, const Arguments& in, Tensor& out) {
  Dims low = op.array("edge_padding_low"), stride = rowMajor(out.type.dims);
  int64_t base = 0;
  for (size_t i = 0; i < low.size(); i++) base += low[i] * stride[i];
  withSize(out.type.kind, [&](auto as) {
    using U = typename decltype(as)::type;
    std::fill_n(out.as<U>(), out.type.size(), *in[1].as<U>());
    walk(in[0].type.dims, stride, base, [&](int64_t i, int64_t to) { out.as<U>()[to] = in[0].as<U>()[i]; });
  });
}

void iota(const Op& op, Tensor& out) {
  int64_t d = op.integer("iota_dimension");
  Dims stride(out.type.rank(), 0);
  stride[d] = 1;
  with(out.type.kind, [&](auto as) {
    using T = typename decltype(as)::type;
    walk(out.type.dims, stride, 0, [&](int64_t i, int64_t n) { out.as<T>()[i] = T(Wide<T>(n)); });
  });
}

}  // namespace

Results movement(const Op& op, const Arguments& in, const Books& books) {
  const std::string& n = op.name;
  if (n == "constant") return {op.constant};
  if (n == "optimization_barrier") return in;
  if (n == "reshape" || n == "bitcast_convert") return {Tensor{op.resultTypes[0], in[0].storage}};
  static const char* known[] = {"broadcast_in_dim", "transpose", "slice", "concatenate", "pad", "iota"};
  if (std::find(std::begin(known), std::end(known), n) == std::end(known)) return {};
  Tensor out = make(books, op.resultTypes[0]);
  if (n == "broadcast_in_dim") broadcast(op, in[0], out);
  else if (n == "transpose") transpose(op, in[0], out);
  else if (n == "slice") slice(op, in[0], out);
  else if (n == "concatenate") concatenate(op, in, out);
  else if (n == "pad") pad(op, in, out);
  else iota(op, out);
  return {out};
}

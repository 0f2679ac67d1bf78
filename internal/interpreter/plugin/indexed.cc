// Operations that read or write at places which a tensor names. XLA forgives a place that is out of bounds; here it is an
// error, and so are indices that are said to be sorted or unique and are not.
#include <algorithm>
#include <set>

#include "evaluate.h"

namespace {

// Windows are the blocks that a gather reads or a scatter writes: for each index vector one, [window] within an operand.
struct Windows {
  Dims sizes, operandStride;  // of the dimensions that a window has
  Dims outStride;             // of the same in the result, or in the updates
  Dims batch, batchStride;    // dimensions of the indices but the vector's, and their strides in the result
  std::vector<int64_t> begins;  // offset of each window in the operand
};

int64_t indexAt(const Tensor& t, int64_t i) {
  int64_t x = 0;
  withInteger(t.type.kind, [&](auto as) { x = int64_t(t.as<typename decltype(as)::type>()[i]); });
  return x;
}

// begins reads where the windows begin and checks that they lie within the operand.
std::vector<int64_t> begins(const Op& op, const Tensor& indices, int64_t vector, const Dims& map, const Dims& operand,
                            const Dims& sizes) {
  Dims own = rowMajor(indices.type.dims), batch, batchStride, stride = rowMajor(operand);
  bool implicit = vector == indices.type.rank();
  for (int64_t d = 0; d < indices.type.rank(); d++)
    if (d != vector) batch.push_back(indices.type.dims[d]), batchStride.push_back(own[d]);
  std::vector<int64_t> all;
  walk(batch, batchStride, 0, [&](int64_t, int64_t at) {
    int64_t begin = 0;
    for (size_t j = 0; j < map.size(); j++) {
      int64_t x = indexAt(indices, at + (implicit ? 0 : int64_t(j) * own[vector])), d = map[j];
      if (x < 0 || x + sizes[d] > operand[d])
        op.refuse("index " + std::to_string(x) + " is out of bounds: dimension " + std::to_string(d) + " of " + text(operand) +
                  " with a window of " + std::to_string(sizes[d]));
      begin += x * stride[d];
    }
    all.push_back(begin);
  });
  if (op.truth("indices_are_sorted") && !std::is_sorted(all.begin(), all.end())) op.refuse("the indices are not sorted");
  if (op.has("unique_indices") && op.truth("unique_indices") && std::set<int64_t>(all.begin(), all.end()).size() != all.size())
    op.refuse("the indices are not unique");
  return all;
}

bool contains(const Dims& d, int64_t x) { return std::find(d.begin(), d.end(), x) != d.end(); }

// windows of operand dims, windowDims being those of the result, or updates, that run through a window.
Windows windows(const Dims& operand, const Dims& sizes, const Dims& without, const Dims& windowDims, const Dims& result) {
  Windows w;
  Dims stride = rowMajor(operand), own = rowMajor(result);
  for (size_t d = 0; d < operand.size(); d++)
    if (!contains(without, d)) w.sizes.push_back(sizes[d]), w.operandStride.push_back(stride[d]);
  for (int64_t d = 0; d < int64_t(result.size()); d++) {
    if (contains(windowDims, d)) w.outStride.push_back(own[d]);
    else w.batch.push_back(result[d]), w.batchStride.push_back(own[d]);
  }
  return w;
}

// visit calls f(offset in the operand, offset in the result) for every element of every window.
template <class F> void visit(const Windows& w, F f) {
  std::vector<int64_t> inOperand, inResult;
  walk(w.sizes, w.operandStride, 0, [&](int64_t, int64_t o) { inOperand.push_back(o); });
  walk(w.sizes, w.outStride, 0, [&](int64_t, int64_t o) { inResult.push_back(o); });
  walk(w.batch, w.batchStride, 0, [&](int64_t i, int64_t base) {
    for (size_t j = 0; j < inOperand.size(); j++) f(w.begins[i] + inOperand[j], base + inResult[j]);
  });
}

Tensor gather(const Op& op, const Arguments& in, const Books& books) {
  auto n = op.record("dimension_numbers", "gather", {"offset_dims", "collapsed_slice_dims", "operand_batching_dims",
                                                     "start_indices_batching_dims", "start_index_map", "index_vector_dim"});
  Dims sizes = op.array("slice_sizes");
  Tensor out = make(books, op.resultTypes[0]);
  Windows w = windows(in[0].type.dims, sizes, n["collapsed_slice_dims"], n["offset_dims"], out.type.dims);
  w.begins = begins(op, in[1], n["index_vector_dim"][0], n["start_index_map"], in[0].type.dims, sizes);
  withSize(out.type.kind, [&](auto as) {
    using U = typename decltype(as)::type;
    visit(w, [&](int64_t from, int64_t to) { out.as<U>()[to] = in[0].as<U>()[from]; });
  });
  return out;
}

// addUp adds the updates. On a GPU they arrive in any order, which changes the sum of three numbers that are not zero.
void addUp(const Windows& w, const Arguments& in, Tensor& out, Ledger& books) {
  std::vector<uint8_t> terms(out.type.size(), 0);
  withFloat(out.type.kind, [&](auto as) {
    using T = typename decltype(as)::type;
    visit(w, [&](int64_t to, int64_t from) {
      Wide<T> update = in[2].as<T>()[from];
      T& x = out.as<T>()[to];
      if (terms[to] == 0 && Wide<T>(in[0].as<T>()[to]) != 0) terms[to] = 1;
      if (update != 0 && terms[to] < 3 && ++terms[to] == 3) books.unordered++;
      x = T(Wide<T>(x) + update);
    });
  });
}

Tensor scatter(const Op& op, const Arguments& in, const Books& books) {
  auto n = op.record("scatter_dimension_numbers", "scatter",
                     {"update_window_dims", "inserted_window_dims", "input_batching_dims", "scatter_indices_batching_dims",
                      "scatter_dims_to_operand_dims", "index_vector_dim"});
  const Dims &operand = in[0].type.dims, &inserted = n["inserted_window_dims"], &window = n["update_window_dims"];
  Dims sizes;
  for (size_t d = 0, i = 0; d < operand.size(); d++)
    sizes.push_back(contains(inserted, d) ? 1 : in[2].type.dims[window[i++]]);
  Tensor out = make(books, op.resultTypes[0]);
  std::memcpy(out.raw(), in[0].raw(), out.type.bytes());
  Windows w = windows(operand, sizes, inserted, window, in[2].type.dims);
  w.begins = begins(op, in[1], n["index_vector_dim"][0], n["scatter_dims_to_operand_dims"], operand, sizes);
  Combine combine(op, 1, books);
  if (combine.simple() == "add" && isFloat(out.type.kind)) {
    addUp(w, in, out, *books);
    return out;
  }
  visit(w, [&](int64_t to, int64_t from) { combine.call({out}, to, {in[2]}, from); });
  return out;
}

// corner is the offset of a dynamic slice's first element.
int64_t corner(const Op& op, const Arguments& in, size_t first, const Dims& sizes) {
  Dims stride = rowMajor(in[0].type.dims);
  int64_t offset = 0;
  for (size_t d = 0; d < sizes.size(); d++) {
    int64_t x = indexAt(in[first + d], 0);
    if (x < 0 || x + sizes[d] > in[0].type.dims[d]) op.refuse("index " + std::to_string(x) + " is out of bounds");
    offset += x * stride[d];
  }
  return offset;
}

}  // namespace

Results indexed(const Op& op, const Arguments& in, const Books& books) {
  if (op.name == "gather") return {gather(op, in, books)};
  if (op.name == "scatter") return {scatter(op, in, books)};
  bool update = op.name == "dynamic_update_slice";
  if (op.name != "dynamic_slice" && !update) return {};
  const Tensor& a = in[0];
  Dims sizes = update ? in[1].type.dims : op.resultTypes[0].dims;
  int64_t from = corner(op, in, update ? 2 : 1, sizes);
  Tensor out = make(books, op.resultTypes[0]);
  if (update) std::memcpy(out.raw(), a.raw(), a.type.bytes());
  withSize(a.type.kind, [&](auto as) {
    using U = typename decltype(as)::type;
    walk(sizes, rowMajor(a.type.dims), from, [&](int64_t i, int64_t at) {
      if (update) out.as<U>()[at] = in[1].as<U>()[i];
      else out.as<U>()[i] = a.as<U>()[at];
    });
  });
  return {out};
}

// The rules of StableHLO for the operations that are known: numbers and types of operands and results, attributes.
#include <algorithm>
#include <cctype>
#include <set>

#include "attention.h"
#include "program.h"

namespace {

// Checker looks at one operation.
struct Checker {
  const Program& p;
  const Op& op;

  const Type& in(size_t i) const { return op.operandTypes.at(i); }
  const Type& out() const { return op.resultTypes.at(0); }
  void require(bool ok, const std::string& rule) const {
    if (!ok) op.refuse(rule + "; operands " + list(op.operandTypes) + ", results " + list(op.resultTypes));
  }
  static std::string list(const std::vector<Type>& types) {
    std::string s;
    for (const Type& t : types) s += (s.empty() ? "" : ", ") + text(t);
    return s;
  }
  void arity(size_t operands, size_t results = 1) const {
    require(op.operands.size() == operands && op.results.size() == results, "other number of operands or results");
  }
  void only(std::initializer_list<const char*> known, size_t regions = 0) const {
    for (auto& [key, value] : op.attributes)
      require(std::find(known.begin(), known.end(), key) != known.end(), "attribute " + key + " is not known");
    require(op.regions.size() == regions, "other number of regions");
  }
  void becomes(const Type& t) const { require(out() == t, "the result must be " + text(t)); }

  // distinct says that each is a dimension below rank and comes once; sorted, that they come in order.
  void distinct(const Dims& dims, int64_t rank, const char* what, bool sorted = false) const {
    std::set<int64_t> seen;
    for (int64_t d : dims)
      require(d >= 0 && d < rank && seen.insert(d).second, std::string(what) + " " + text(dims) + " is wrong");
    require(!sorted || std::is_sorted(dims.begin(), dims.end()), std::string(what) + " " + text(dims) + " is not sorted");
  }
  void apart(const Dims& a, const Dims& b, const char* what) const {
    for (int64_t d : a) require(std::find(b.begin(), b.end(), d) == b.end(), std::string(what) + " have a dimension in common");
  }

  void unary(bool ok) const {
    arity(1);
    only({});
    require(ok, "element type is not allowed");
    becomes(in(0));
  }
  void binary(bool ok) const {
    arity(2);
    only({});
    require(in(0) == in(1), "operands must have one type");
    require(ok, "element type is not allowed");
    becomes(in(0));
  }
  void compare() const;
  void select() const;
  void clamp() const;
  void broadcast() const;
  void transpose() const;
  void bitcast() const;
  void concatenate() const;
  void slice() const;
  void dynamicSlice() const;
  void dynamicUpdateSlice() const;
  void pad() const;
  void dot() const;
  void gather() const;
  void scatter() const;
  void reduce() const;
  void scalarBody(size_t values) const;
  void regions() const;
  bool shape() const;
  bool elementwise() const;
  void all() const;
};

void Checker::compare() const {
  arity(2);
  only({"compare_type", "comparison_direction"});
  require(in(0) == in(1), "operands must have one type");
  Kind k = in(0).kind;
  std::string how = op.word("compare_type", "comparison_type");
  require(how == (isFloat(k) ? "FLOAT" : isSigned(k) ? "SIGNED" : "UNSIGNED"), "compare_type " + how + " does not fit");
  std::string d = op.word("comparison_direction", "comparison_direction");
  static const std::set<std::string> known = {"EQ", "NE", "LT", "LE", "GT", "GE"};
  require(known.count(d), "direction " + d + " is not known");
  becomes(Type{Kind::i1, in(0).dims});
}

void Checker::select() const {
  arity(3);
  only({});
  require(in(0).kind == Kind::i1 && (in(0).rank() == 0 || in(0).dims == in(1).dims), "predicate must be i1, a scalar or of the shape");
  require(in(1) == in(2), "both choices must have one type");
  becomes(in(1));
}

void Checker::clamp() const {
  arity(3);
  only({});
  for (int i : {0, 2}) require(in(i).kind == in(1).kind && (in(i).rank() == 0 || in(i) == in(1)), "bounds must be scalars or of the type");
  becomes(in(1));
}

void Checker::broadcast() const {
  arity(1);
  only({"broadcast_dimensions"});
  Dims to = op.array("broadcast_dimensions");
  require(int64_t(to.size()) == in(0).rank(), "one dimension for each of the operand's");
  distinct(to, out().rank(), "broadcast_dimensions");
  require(in(0).kind == out().kind, "element type changes");
  for (size_t i = 0; i < to.size(); i++)
    require(in(0).dims[i] == 1 || in(0).dims[i] == out().dims[to[i]], "dimension " + std::to_string(i) + " is neither 1 nor the result's");
}

void Checker::transpose() const {
  arity(1);
  only({"permutation"});
  Dims perm = op.array("permutation");
  require(int64_t(perm.size()) == in(0).rank(), "a permutation of all dimensions");
  distinct(perm, in(0).rank(), "permutation");
  Type want{in(0).kind, {}};
  for (int64_t d : perm) want.dims.push_back(in(0).dims[d]);
  becomes(want);
}

void Checker::bitcast() const {
  arity(1);
  only({});
  Type want{out().kind, in(0).dims};
  int64_t from = bytesOf(in(0).kind), to = bytesOf(out().kind);
  if (from > to) want.dims.push_back(from / to);
  if (from < to) {
    require(!want.dims.empty() && want.dims.back() == to / from, "the last dimension must be the ratio of the sizes");
    want.dims.pop_back();
  }
  becomes(want);
}

void Checker::concatenate() const {
  require(!op.operands.empty(), "no operands");
  arity(op.operands.size());
  only({"dimension"});
  int64_t d = op.integer("dimension");
  require(d >= 0 && d < in(0).rank(), "no such dimension");
  Type want = in(0);
  want.dims[d] = 0;
  for (const Type& t : op.operandTypes) {
    Type other = t;
    require(t.rank() == in(0).rank(), "ranks differ");
    want.dims[d] += t.dims[d];
    other.dims[d] = in(0).dims[d];
    require(other == in(0), "operands differ beside the dimension");
  }
  becomes(want);
}

void Checker::slice() const {
  arity(1);
  only({"start_indices", "limit_indices", "strides"});
  Dims start = op.array("start_indices"), limit = op.array("limit_indices"), stride = op.array("strides");
  size_t rank = in(0).dims.size();
  require(start.size() == rank && limit.size() == rank && stride.size() == rank, "one index for each dimension");
  Type want = in(0);
  for (size_t i = 0; i < rank; i++) {
    require(0 <= start[i] && start[i] <= limit[i] && limit[i] <= in(0).dims[i] && stride[i] > 0, "out of bounds");
    want.dims[i] = (limit[i] - start[i] + stride[i] - 1) / stride[i];
  }
  becomes(want);
}

void Checker::dynamicSlice() const {
  arity(1 + in(0).dims.size());
  only({"slice_sizes"});
  Dims sizes = op.array("slice_sizes");
  require(sizes.size() == in(0).dims.size(), "one size for each dimension");
  for (size_t i = 0; i < sizes.size(); i++) {
    require(0 <= sizes[i] && sizes[i] <= in(0).dims[i], "slice is larger than the operand");
    require(isInteger(in(1 + i).kind) && in(1 + i).rank() == 0 && in(1 + i) == in(1), "indices must be integers of one type");
  }
  becomes(Type{in(0).kind, sizes});
}

void Checker::dynamicUpdateSlice() const {
  arity(2 + in(0).dims.size());
  only({});
  require(in(1).kind == in(0).kind && in(1).rank() == in(0).rank(), "update has another type");
  for (size_t i = 0; i < in(0).dims.size(); i++) {
    require(in(1).dims[i] <= in(0).dims[i], "update is larger than the operand");
    require(isInteger(in(2 + i).kind) && in(2 + i).rank() == 0 && in(2 + i) == in(2), "indices must be integers of one type");
  }
  becomes(in(0));
}

void Checker::pad() const {
  arity(2);
  only({"edge_padding_low", "edge_padding_high", "interior_padding"});
  Dims low = op.array("edge_padding_low"), high = op.array("edge_padding_high"), inner = op.array("interior_padding");
  size_t rank = in(0).dims.size();
  require(low.size() == rank && high.size() == rank && inner.size() == rank, "one padding for each dimension");
  require(in(1) == (Type{in(0).kind, {}}), "the padding value must be a scalar of the type");
  Type want = in(0);
  for (size_t i = 0; i < rank; i++) {
    require(low[i] >= 0 && high[i] >= 0 && inner[i] == 0, "only padding at the edges is known");
    want.dims[i] += low[i] + high[i];
  }
  becomes(want);
}

void Checker::dot() const {
  arity(2);
  only({"dot_dimension_numbers", "precision_config", "algorithm"});
  auto n = op.record("dot_dimension_numbers", "dot", {"lhs_batching_dimensions", "rhs_batching_dimensions",
                                                      "lhs_contracting_dimensions", "rhs_contracting_dimensions"});
  Dims lb = n["lhs_batching_dimensions"], rb = n["rhs_batching_dimensions"];
  Dims lc = n["lhs_contracting_dimensions"], rc = n["rhs_contracting_dimensions"];
  require(lb.size() == rb.size() && lc.size() == rc.size(), "as many dimensions on both sides");
  require(in(0).kind == in(1).kind, "operands must have one element type");
  require(in(0).kind != Kind::i1, "element type is not allowed");
  auto joined = [](Dims a, const Dims& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  };
  distinct(joined(lb, lc), in(0).rank(), "dimensions of the left side");
  distinct(joined(rb, rc), in(1).rank(), "dimensions of the right side");
  Type want{out().kind, {}};
  for (size_t i = 0; i < lb.size(); i++) {
    require(in(0).dims[lb[i]] == in(1).dims[rb[i]], "batching dimensions differ");
    want.dims.push_back(in(0).dims[lb[i]]);
  }
  for (size_t i = 0; i < lc.size(); i++) require(in(0).dims[lc[i]] == in(1).dims[rc[i]], "contracting dimensions differ");
  for (int side : {0, 1}) {
    Dims used = side == 0 ? joined(lb, lc) : joined(rb, rc);
    for (int64_t d = 0; d < in(side).rank(); d++)
      if (std::find(used.begin(), used.end(), d) == used.end()) want.dims.push_back(in(side).dims[d]);
  }
  becomes(want);
  Kind k = in(0).kind, to = out().kind;
  require(k == to || (bytesOf(k) == 2 && to == Kind::f32), "a product of " + std::string(nameOf(k)) + " cannot be " + nameOf(to));
  if (op.has("algorithm")) {  // what go-xla writes for plugins other than CUDA's
    std::string algorithm = op.attribute("algorithm");
    algorithm.erase(std::remove_if(algorithm.begin(), algorithm.end(), [](unsigned char c) { return std::isspace(c); }), algorithm.end());
    require(algorithm == "#stablehlo.dot_algorithm<lhs_precision_type=f32,rhs_precision_type=f32,accumulation_type=f32,"
                         "lhs_component_count=1,rhs_component_count=1,num_primitive_operations=1,allow_imprecise_accumulation=false>",
            "algorithm " + algorithm + " is not known");
  }
  static const std::set<std::string> known = {"DEFAULT", "HIGH", "HIGHEST"};
  std::string config = op.attribute("precision_config");
  for (auto& a : known)
    for (auto& b : known)
      if (config == "[#stablehlo<precision " + a + ">, #stablehlo<precision " + b + ">]") return;
  op.refuse("precision_config " + config + " is not known");
}

void Checker::gather() const {
  arity(2);
  only({"dimension_numbers", "slice_sizes", "indices_are_sorted"});
  auto n = op.record("dimension_numbers", "gather", {"offset_dims", "collapsed_slice_dims", "operand_batching_dims",
                                                     "start_indices_batching_dims", "start_index_map", "index_vector_dim"});
  require(n["operand_batching_dims"].empty() && n["start_indices_batching_dims"].empty(), "batching dimensions are not known");
  Dims offset = n["offset_dims"], collapsed = n["collapsed_slice_dims"], map = n["start_index_map"];
  Dims sizes = op.array("slice_sizes");
  int64_t vector = n["index_vector_dim"].at(0), rank = in(0).rank();
  op.truth("indices_are_sorted");
  require(isInteger(in(1).kind), "indices must be integers");
  require(vector >= 0 && vector <= in(1).rank(), "index_vector_dim is out of range");
  require(int64_t(map.size()) == (vector < in(1).rank() ? in(1).dims[vector] : 1), "start_index_map has not an entry for each index");
  distinct(map, rank, "start_index_map");
  distinct(collapsed, rank, "collapsed_slice_dims", true);
  distinct(offset, out().rank(), "offset_dims", true);
  require(rank == int64_t(offset.size() + collapsed.size()), "offset_dims and collapsed_slice_dims are not all dimensions");
  require(int64_t(sizes.size()) == rank, "one slice size for each dimension");
  int64_t batch = in(1).rank() - (vector < in(1).rank() ? 1 : 0);
  require(out().rank() == batch + int64_t(offset.size()), "the result has another rank");
  Dims window, want;
  for (int64_t d = 0; d < rank; d++) {
    require(sizes[d] >= 0 && sizes[d] <= in(0).dims[d], "slice is larger than the operand");
    bool gone = std::find(collapsed.begin(), collapsed.end(), d) != collapsed.end();
    require(!gone || sizes[d] == 1, "a collapsed dimension must have size 1");
    if (!gone) window.push_back(sizes[d]);
  }
  size_t w = 0;
  int64_t b = 0;
  for (int64_t d = 0; d < out().rank(); d++) {
    if (std::find(offset.begin(), offset.end(), d) != offset.end()) {
      want.push_back(window.at(w++));
      continue;
    }
    b += b == vector;
    want.push_back(in(1).dims[b++]);
  }
  becomes(Type{in(0).kind, want});
}

void Checker::scatter() const {
  arity(3);
  only({"scatter_dimension_numbers", "indices_are_sorted", "unique_indices"}, 1);
  auto n = op.record("scatter_dimension_numbers", "scatter",
                     {"update_window_dims", "inserted_window_dims", "input_batching_dims", "scatter_indices_batching_dims",
                      "scatter_dims_to_operand_dims", "index_vector_dim"});
  require(n["input_batching_dims"].empty() && n["scatter_indices_batching_dims"].empty(), "batching dimensions are not known");
  Dims window = n["update_window_dims"], inserted = n["inserted_window_dims"], map = n["scatter_dims_to_operand_dims"];
  int64_t vector = n["index_vector_dim"].at(0), rank = in(0).rank();
  op.truth("indices_are_sorted");
  op.truth("unique_indices");
  require(isInteger(in(1).kind), "indices must be integers");
  require(in(2).kind == in(0).kind, "updates have another element type");
  require(vector >= 0 && vector <= in(1).rank(), "index_vector_dim is out of range");
  require(int64_t(map.size()) == (vector < in(1).rank() ? in(1).dims[vector] : 1), "scatter_dims_to_operand_dims has not an entry for each index");
  distinct(map, rank, "scatter_dims_to_operand_dims");
  distinct(inserted, rank, "inserted_window_dims", true);
  distinct(window, in(2).rank(), "update_window_dims", true);
  require(rank == int64_t(window.size() + inserted.size()), "window dimensions are not all dimensions");
  int64_t batch = in(1).rank() - (vector < in(1).rank() ? 1 : 0);
  require(in(2).rank() == batch + int64_t(window.size()), "updates have another rank");
  Dims bounds;
  for (int64_t d = 0; d < rank; d++)
    if (std::find(inserted.begin(), inserted.end(), d) == inserted.end()) bounds.push_back(in(0).dims[d]);
  for (size_t i = 0; i < window.size(); i++) require(in(2).dims[window[i]] <= bounds[i], "a window is larger than the operand");
  int64_t b = 0;
  for (int64_t d = 0; d < in(2).rank(); d++) {
    if (std::find(window.begin(), window.end(), d) != window.end()) continue;
    b += b == vector;
    require(in(2).dims[d] == in(1).dims[b++], "updates have other dimensions than the indices");
  }
  becomes(in(0));
  scalarBody(1);
}

void Checker::reduce() const {
  size_t n = op.operands.size() / 2;
  require(n > 0, "no operands");
  arity(2 * n, n);
  only({"dimensions"}, 1);
  Dims dims = op.array("dimensions");
  distinct(dims, in(0).rank(), "dimensions");
  Dims want;
  for (int64_t d = 0; d < in(0).rank(); d++)
    if (std::find(dims.begin(), dims.end(), d) == dims.end()) want.push_back(in(0).dims[d]);
  for (size_t i = 0; i < n; i++) {
    require(in(i).dims == in(0).dims, "operands differ in shape");
    require(in(n + i) == (Type{in(i).kind, {}}), "initial values must be scalars of the operands' types");
    require(op.resultTypes[i] == (Type{in(i).kind, want}), "a result must be " + text(want));
  }
  scalarBody(n);
}

// scalarBody: the region takes two scalars of each of the values' types and returns one of each.
void Checker::scalarBody(size_t values) const {
  const Region& r = op.regions[0];
  require(r.arguments.size() == 2 * values && r.returned.size() == values, "the region takes or returns another number of values");
  for (size_t i = 0; i < values; i++) {
    Type scalar{in(i).kind, {}};
    for (int v : {r.arguments[i], r.arguments[values + i], r.returned[i]})
      require(p.types[v] == scalar, "the region takes or returns other types than " + text(scalar));
  }
}

bool Checker::elementwise() const {
  static const std::set<std::string> real = {"exponential", "exponential_minus_one", "log", "log_plus_one", "logistic", "sqrt",
                                             "rsqrt", "sine", "cosine", "tanh", "floor", "ceil", "round_nearest_even"};
  static const std::set<std::string> arithmetic = {"subtract", "divide", "power", "remainder"};
  static const std::set<std::string> any = {"add", "multiply", "maximum", "minimum"};
  static const std::set<std::string> logic = {"and", "or", "xor"};
  static const std::set<std::string> shifts = {"shift_left", "shift_right_logical", "shift_right_arithmetic"};
  const std::string& n = op.name;
  Kind k = op.operandTypes.empty() ? Kind::i1 : in(0).kind;
  if (real.count(n)) unary(isFloat(k));
  else if (n == "negate" || n == "abs" || n == "sign") unary(isFloat(k) || isSigned(k) || (n == "negate" && isInteger(k)));
  else if (n == "not") unary(!isFloat(k));
  else if (arithmetic.count(n)) binary(k != Kind::i1);
  else if (any.count(n)) binary(true);
  else if (logic.count(n)) binary(!isFloat(k));
  else if (shifts.count(n)) binary(isInteger(k));
  else if (n == "compare") compare();
  else if (n == "select") select();
  else if (n == "clamp") clamp();
  else if (n == "is_finite") {
    arity(1), only({}), require(isFloat(k), "element type is not allowed"), becomes(Type{Kind::i1, in(0).dims});
  } else if (n == "convert") {
    arity(1), only({}), becomes(Type{out().kind, in(0).dims});
  } else return false;
  return true;
}

bool Checker::shape() const {
  const std::string& n = op.name;
  if (n == "constant") arity(0), only({"value"});
  else if (n == "iota") {
    arity(0), only({"iota_dimension"});
    int64_t d = op.integer("iota_dimension");
    require(out().kind != Kind::i1 && d >= 0 && d < out().rank(), "iota_dimension is out of range");
  } else if (n == "reshape") {
    arity(1), only({}), require(in(0).kind == out().kind && in(0).size() == out().size(), "type or number of elements changes");
  } else if (n == "broadcast_in_dim") broadcast();
  else if (n == "transpose") transpose();
  else if (n == "bitcast_convert") bitcast();
  else if (n == "concatenate") concatenate();
  else if (n == "slice") slice();
  else if (n == "dynamic_slice") dynamicSlice();
  else if (n == "dynamic_update_slice") dynamicUpdateSlice();
  else if (n == "pad") pad();
  else if (n == "optimization_barrier") {
    only({}), require(op.operandTypes == op.resultTypes, "results must be of the operands' types");
  } else return false;
  return true;
}

void Checker::all() const {
  if (elementwise() || shape()) return;
  if (op.name == "dot_general") dot();
  else if (op.name == "gather") gather();
  else if (op.name == "scatter") scatter();
  else if (op.name == "reduce") reduce();
  else if (op.name == "custom_call") {
    only({"api_version", "backend_config", "call_target_name", "operand_layouts", "result_layouts"});
    checkAttention(op);
  } else op.refuse("the operation is not known");
}

void region(const Program& p, const Region& r) {
  for (const Op& op : r.ops) {
    Checker{p, op}.all();
    for (const Region& inner : op.regions) region(p, inner);
  }
}

}  // namespace

void check(const Program& p) { region(p, p.main); }

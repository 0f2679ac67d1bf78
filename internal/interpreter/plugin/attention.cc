// softmax(scale q kᵀ + causal mask) v and its gradient, head by head, with the operands, layouts and configuration that
// XLA's rewriting of these calls to cuDNN reads. q, k, v, dO and O are [B, S, H, D], results [B, H, S, D] lie in memory as
// [B, S, H, D]. Scores and statistics are float32; what enters a second product is rounded to half precision first.
#include "attention.h"

#include <algorithm>
#include <cmath>

#include "json.h"

namespace {

const std::string prefix = "cudnn_fmha_backend_config.";
const char* forwardTarget = "__cudnn$fmhaSoftmax";
const char* backwardTarget = "__cudnn$fmhaSoftmaxBackward";

// Call is what a custom call says of itself.
struct Call {
  const Op& op;
  bool backward;
  std::map<std::string, std::string> config;
  int64_t b, s, h, d;

  explicit Call(const Op& o) : op(o) {
    std::string target = op.quoted("call_target_name");
    backward = target == backwardTarget;
    if (!backward && target != forwardTarget) op.refuse("call_target_name " + target + " is not known");
    config = flatten(op.quoted("backend_config"));
    if (op.operandTypes.empty() || op.operandTypes[0].rank() != 4) op.refuse("the first operand must be [B, S, H, D]");
    const Dims& q = op.operandTypes[0].dims;
    b = q[0], s = q[1], h = q[2], d = q[3];
  }
  const std::string& field(const std::string& name) const {
    auto found = config.find(prefix + name);
    if (found == config.end()) op.refuse("backend_config lacks " + prefix + name);
    return found->second;
  }
  void want(const std::string& name, const std::string& value) const {
    if (field(name) != value) op.refuse("backend_config: " + name + " is " + field(name) + ", want " + value);
  }
  void wantDot(const std::string& name, const char* lhsContract, const char* rhsContract, const char* lhsHead, const char* rhsHead) const {
    const std::string base = name + "_dot_dimension_numbers.";
    want(base + "lhs_contracting_dimensions.0", lhsContract);
    want(base + "rhs_contracting_dimensions.0", rhsContract);
    for (const char* side : {"lhs", "rhs"}) {
      want(base + side + "_batch_dimensions.0", "0");
      want(base + side + "_batch_dimensions.1", side[0] == 'l' ? lhsHead : rhsHead);
    }
  }
  bool causal() const { return field("mask_type") == "CAUSAL"; }
  float scale() const { return std::stof(field("fmha_scale")); }
};

std::string layouts(const std::vector<std::string>& each) {
  std::string all = "[";
  for (const std::string& order : each) {
    int64_t rank = std::count(order.begin(), order.end(), ',') + 1;
    std::string list = rank == 1 ? order : "[" + order + "]";
    all += (all.size() > 1 ? ", " : "") + ("dense<" + list + "> : tensor<" + std::to_string(rank) + "xindex>");
  }
  return all + "]";
}

void checkConfig(const Call& c) {
  Kind k = c.op.operandTypes[0].kind;
  const std::string shape = "intermediate_tensor_shape.";
  c.want(shape + "element_type", k == Kind::bf16 ? "BF16" : "F16");
  int64_t scores[] = {c.b, c.h, c.s, c.s};
  for (int i = 0; i < 4; i++) c.want(shape + "dimensions." + std::to_string(i), std::to_string(scores[i]));
  for (int i = 0; i < 4; i++) c.want(shape + "layout.minor_to_major." + std::to_string(i), std::to_string(3 - i));
  c.want("is_flash_attention", "true");
  c.want("is_paged_attention", "false");
  c.want("dropout_rate", "0");
  c.want("sliding_window_length", "0");
  c.want("algorithm.is_cudnn_frontend", "true");
  if (!c.causal()) c.want("mask_type", "NO_MASK");
  if (!(c.scale() > 0)) c.op.refuse("backend_config: fmha_scale is not positive");
  if (!c.backward) {
    c.wantDot("bmm1", "3", "3", "2", "2");
    c.wantDot("bmm2", "3", "1", "1", "2");
    return;
  }
  c.wantDot("bmm1_grad_gemm1", "2", "1", "1", "2");
  c.wantDot("bmm1_grad_gemm2", "3", "1", "1", "2");
  c.wantDot("bmm2_grad_gemm1", "2", "1", "1", "2");
  c.wantDot("bmm2_grad_gemm2", "3", "3", "2", "2");
}

}  // namespace

void checkAttention(const Op& op) {
  Call c(op);
  Kind k = op.operandTypes[0].kind;
  if (k != Kind::bf16 && k != Kind::f16) op.refuse("operands must be in half precision");
  if (c.d % 8 != 0 || c.d > 128) op.refuse("a head dimension of " + std::to_string(c.d) + " is not known to cuDNN's kernels");
  if (op.integer("api_version") != 2) op.refuse("api_version must be 2");
  Type own{k, {c.b, c.s, c.h, c.d}}, heads{k, {c.b, c.h, c.s, c.d}}, stats{Kind::f32, {c.b, c.h, c.s}}, scratch{Kind::u8, {0}};
  std::vector<Type> operands = {own, own, own}, results = {heads, stats, scratch};
  std::vector<std::string> in(3, "3, 2, 1, 0"), out = {"3, 1, 2, 0", "2, 1, 0", "0"};
  if (c.backward) {
    operands = {own, own, own, stats, own, own};
    results = {heads, heads, heads, scratch};
    in = {in[0], in[0], in[0], "2, 1, 0", in[0], in[0]};
    out = {out[0], out[0], out[0], "0"};
  }
  if (op.operandTypes != operands || op.resultTypes != results) op.refuse("operands or results have other types than the call takes");
  if (op.attribute("operand_layouts") != layouts(in)) op.refuse("operand_layouts must be " + layouts(in));
  if (op.attribute("result_layouts") != layouts(out)) op.refuse("result_layouts must be " + layouts(out));
  checkConfig(c);
}

namespace {

// Head is one head of one sequence, [S, D] each, as float32.
struct Head {
  const Call& c;
  int64_t b, h;
  std::vector<float> take(const Tensor& t) const {  // of [B, S, H, D]
    std::vector<float> x(c.s * c.d);
    withFloat(t.type.kind, [&](auto as) {
      auto* from = t.as<typename decltype(as)::type>();
      for (int64_t i = 0; i < c.s; i++)
        for (int64_t j = 0; j < c.d; j++) x[i * c.d + j] = float(from[((b * c.s + i) * c.h + h) * c.d + j]);
    });
    return x;
  }
  void put(const std::vector<float>& x, const Tensor& t) const {  // into [B, H, S, D]
    withFloat(t.type.kind, [&](auto as) {
      using T = typename decltype(as)::type;
      for (int64_t i = 0; i < c.s * c.d; i++) t.as<T>()[(b * c.h + h) * c.s * c.d + i] = T(Wide<T>(x[i]));
    });
  }
  int64_t keys(int64_t query) const { return c.causal() ? query + 1 : c.s; }
  float dot(const std::vector<float>& x, int64_t i, const std::vector<float>& y, int64_t j) const {
    float sum = 0;
    for (int64_t t = 0; t < c.d; t++) sum += x[i * c.d + t] * y[j * c.d + t];
    return sum;
  }
};

float halved(float x, Kind k) { return k == Kind::bf16 ? float(Bf16(x)) : float(F16(x)); }

void addTo(std::vector<float>& to, int64_t i, float by, const std::vector<float>& x, int64_t j, int64_t d) {
  for (int64_t t = 0; t < d; t++) to[i * d + t] += by * x[j * d + t];
}

void forward(const Head& at, const Arguments& in, const Results& out) {
  const Call& c = at.c;
  auto q = at.take(in[0]), k = at.take(in[1]), v = at.take(in[2]);
  std::vector<float> z(c.s * c.d, 0), score(c.s);
  for (int64_t i = 0; i < c.s; i++) {
    int64_t n = at.keys(i);
    for (int64_t j = 0; j < n; j++) score[j] = c.scale() * at.dot(q, i, k, j);
    float most = *std::max_element(score.begin(), score.begin() + n), sum = 0;
    for (int64_t j = 0; j < n; j++) sum += std::exp(score[j] - most);
    float lse = most + std::log(sum);
    out[1].as<float>()[(at.b * c.h + at.h) * c.s + i] = lse;
    for (int64_t j = 0; j < n; j++) addTo(z, i, halved(std::exp(score[j] - lse), in[0].type.kind), v, j, c.d);
  }
  at.put(z, out[0]);
}

void backward(const Head& at, const Arguments& in, const Results& out) {
  const Call& c = at.c;
  Kind kind = in[0].type.kind;
  auto q = at.take(in[0]), k = at.take(in[1]), v = at.take(in[2]), dz = at.take(in[4]), z = at.take(in[5]);
  std::vector<float> dq(c.s * c.d, 0), dk(dq), dv(dq);
  for (int64_t i = 0; i < c.s; i++) {
    float lse = in[3].as<float>()[(at.b * c.h + at.h) * c.s + i], share = at.dot(dz, i, z, i);
    for (int64_t j = 0; j < at.keys(i); j++) {
      float p = std::exp(c.scale() * at.dot(q, i, k, j) - lse);
      float ds = halved(p * (at.dot(dz, i, v, j) - share), kind) * c.scale();
      addTo(dv, j, halved(p, kind), dz, i, c.d);
      addTo(dq, i, ds, k, j, c.d);
      addTo(dk, j, ds, q, i, c.d);
    }
  }
  at.put(dq, out[0]), at.put(dk, out[1]), at.put(dv, out[2]);
}

}  // namespace

Results attend(const Op& op, const Arguments& in, const std::shared_ptr<Ledger>& ledger) {
  Call c(op);
  Results out;
  for (const Type& t : op.resultTypes) out.push_back(make(ledger, t));
  for (int64_t b = 0; b < c.b; b++)
    for (int64_t h = 0; h < c.h; h++) (c.backward ? backward : forward)(Head{c, b, h}, in, out);
  return out;
}

#include <algorithm>
#include <cmath>
#include <limits>

#include "evaluate.h"

namespace {

template <class T, class R = T, class F> void each(const Tensor& a, Tensor& out, F f) {
  const T* x = a.as<T>();
  R* y = out.as<R>();
  int64_t n = out.type.size();
  for (int64_t i = 0; i < n; i++) y[i] = R(f(Wide<T>(x[i])));
}

template <class T, class R = T, class F> void each(const Tensor& a, const Tensor& b, Tensor& out, F f) {
  const T *x = a.as<T>(), *z = b.as<T>();
  R* y = out.as<R>();
  int64_t n = out.type.size();
  for (int64_t i = 0; i < n; i++) y[i] = R(f(Wide<T>(x[i]), Wide<T>(z[i])));
}

template <class T> bool unaryFloat(const std::string& n, const Tensor& a, Tensor& out) {
  using W = Wide<T>;
  if (n == "exponential") each<T>(a, out, [](W x) { return std::exp(x); });
  else if (n == "exponential_minus_one") each<T>(a, out, [](W x) { return std::expm1(x); });
  else if (n == "log") each<T>(a, out, [](W x) { return std::log(x); });
  else if (n == "log_plus_one") each<T>(a, out, [](W x) { return std::log1p(x); });
  else if (n == "logistic") each<T>(a, out, [](W x) { return 1 / (1 + std::exp(-x)); });
  else if (n == "sqrt") each<T>(a, out, [](W x) { return std::sqrt(x); });
  else if (n == "rsqrt") each<T>(a, out, [](W x) { return 1 / std::sqrt(x); });
  else if (n == "sine") each<T>(a, out, [](W x) { return std::sin(x); });
  else if (n == "cosine") each<T>(a, out, [](W x) { return std::cos(x); });
  else if (n == "tanh") each<T>(a, out, [](W x) { return std::tanh(x); });
  else if (n == "floor") each<T>(a, out, [](W x) { return std::floor(x); });
  else if (n == "ceil") each<T>(a, out, [](W x) { return std::ceil(x); });
  else if (n == "round_nearest_even") each<T>(a, out, [](W x) { return std::nearbyint(x); });
  else if (n == "abs") each<T>(a, out, [](W x) { return std::fabs(x); });
  else if (n == "negate") each<T>(a, out, [](W x) { return -x; });
  else if (n == "sign") each<T>(a, out, [](W x) { return x > 0 ? W(1) : x < 0 ? W(-1) : x; });
  else if (n == "is_finite") each<T, Truth>(a, out, [](W x) { return std::isfinite(x); });
  else return false;
  return true;
}

template <class T> bool unaryInteger(const std::string& n, const Tensor& a, Tensor& out) {
  if (n == "negate") each<T>(a, out, [](T x) { return T(0) - x; });
  else if (n == "abs") each<T>(a, out, [](T x) { return x < T(0) ? T(0) - x : x; });
  else if (n == "sign") each<T>(a, out, [](T x) { return (x > T(0)) - (x < T(0)); });
  else if (n == "not") each<T>(a, out, [](T x) { return ~x; });
  else return false;
  return true;
}

// Not a number wins in a maximum and a minimum.
template <class W> W larger(W x, W y) { return x > y || x != x ? x : y; }
template <class W> W smaller(W x, W y) { return x < y || x != x ? x : y; }

template <class T> bool binaryFloat(const std::string& n, const Tensor& a, const Tensor& b, Tensor& out) {
  using W = Wide<T>;
  if (n == "add") each<T>(a, b, out, [](W x, W y) { return x + y; });
  else if (n == "subtract") each<T>(a, b, out, [](W x, W y) { return x - y; });
  else if (n == "multiply") each<T>(a, b, out, [](W x, W y) { return x * y; });
  else if (n == "divide") each<T>(a, b, out, [](W x, W y) { return x / y; });
  else if (n == "power") each<T>(a, b, out, [](W x, W y) { return std::pow(x, y); });
  else if (n == "remainder") each<T>(a, b, out, [](W x, W y) { return std::fmod(x, y); });
  else if (n == "maximum") each<T>(a, b, out, larger<W>);
  else if (n == "minimum") each<T>(a, b, out, smaller<W>);
  else return false;
  return true;
}

template <class T> bool binaryInteger(const std::string& n, const Tensor& a, const Tensor& b, Tensor& out) {
  using U = std::make_unsigned_t<T>;  // wraps around
  const int bits = 8 * sizeof(T);
  if (n == "add") each<T>(a, b, out, [](T x, T y) { return T(U(x) + U(y)); });
  else if (n == "subtract") each<T>(a, b, out, [](T x, T y) { return T(U(x) - U(y)); });
  else if (n == "multiply") each<T>(a, b, out, [](T x, T y) { return T(uint64_t(x) * uint64_t(y)); });
  else if (n == "divide" || n == "remainder") {
    each<T>(a, b, out, [&](T x, T y) {
      if (y == 0) refuse(n + " of an integer by 0");
      if (y == T(-1) && std::is_signed_v<T>) return n == "divide" ? T(U(0) - U(x)) : T(0);
      return T(n == "divide" ? x / y : x % y);
    });
  } else if (n == "maximum") each<T>(a, b, out, larger<T>);
  else if (n == "minimum") each<T>(a, b, out, smaller<T>);
  else if (n == "and") each<T>(a, b, out, [](T x, T y) { return x & y; });
  else if (n == "or") each<T>(a, b, out, [](T x, T y) { return x | y; });
  else if (n == "xor") each<T>(a, b, out, [](T x, T y) { return x ^ y; });
  else if (n == "shift_left") each<T>(a, b, out, [&](T x, T y) { return uint64_t(y) < uint64_t(bits) ? T(U(x) << y) : T(0); });
  else if (n == "shift_right_logical") each<T>(a, b, out, [&](T x, T y) { return uint64_t(y) < uint64_t(bits) ? T(U(x) >> y) : T(0); });
  else if (n == "shift_right_arithmetic") each<T>(a, b, out, [&](T x, T y) { return x >> (uint64_t(y) < uint64_t(bits) ? y : T(bits - 1)); });
  else return false;
  return true;
}

bool logical(const std::string& n, const Arguments& in, Tensor& out) {
  if (n == "not") each<Truth>(in[0], out, [](bool x) { return !x; });
  else if (n == "and" || n == "multiply" || n == "minimum") each<Truth>(in[0], in[1], out, [](bool x, bool y) { return x && y; });
  else if (n == "or" || n == "add" || n == "maximum") each<Truth>(in[0], in[1], out, [](bool x, bool y) { return x || y; });
  else if (n == "xor") each<Truth>(in[0], in[1], out, [](bool x, bool y) { return x != y; });
  else return false;
  return true;
}

void compare(const Op& op, const Arguments& in, Tensor& out) {
  std::string d = op.word("comparison_direction", "comparison_direction");
  with(in[0].type.kind, [&](auto as) {
    using T = typename decltype(as)::type;
    using W = Wide<T>;
    if (d == "EQ") each<T, Truth>(in[0], in[1], out, [](W x, W y) { return x == y; });
    else if (d == "NE") each<T, Truth>(in[0], in[1], out, [](W x, W y) { return x != y; });
    else if (d == "LT") each<T, Truth>(in[0], in[1], out, [](W x, W y) { return x < y; });
    else if (d == "LE") each<T, Truth>(in[0], in[1], out, [](W x, W y) { return x <= y; });
    else if (d == "GT") each<T, Truth>(in[0], in[1], out, [](W x, W y) { return x > y; });
    else each<T, Truth>(in[0], in[1], out, [](W x, W y) { return x >= y; });
  });
}

void select(const Arguments& in, Tensor& out) {
  bool scalar = in[0].type.rank() == 0;
  withSize(out.type.kind, [&](auto as) {
    using U = typename decltype(as)::type;
    const Truth* p = in[0].as<Truth>();
    const U *yes = in[1].as<U>(), *no = in[2].as<U>();
    for (int64_t i = 0, n = out.type.size(); i < n; i++) out.as<U>()[i] = p[scalar ? 0 : i] ? yes[i] : no[i];
  });
}

void clamp(const Arguments& in, Tensor& out) {
  with(out.type.kind, [&](auto as) {
    using T = typename decltype(as)::type;
    bool low = in[0].type.rank() > 0, high = in[2].type.rank() > 0;
    for (int64_t i = 0, n = out.type.size(); i < n; i++) {
      Wide<T> x = larger<Wide<T>>(in[1].as<T>()[i], in[0].as<T>()[low ? i : 0]);
      out.as<T>()[i] = T(smaller<Wide<T>>(x, in[2].as<T>()[high ? i : 0]));
    }
  });
}

// converted is x as a T: to integers towards zero, and no further than their range.
template <class T, class W> T converted(W x) {
  if constexpr (std::is_same_v<T, Truth>) return Truth(x != W(0));
  else if constexpr (std::is_integral_v<T> && std::is_floating_point_v<W>) {
    if (x != x) return T(0);
    if (x <= W(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
    if (x >= W(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return T(x);
  } else return T(Wide<T>(x));
}

void convert(const Tensor& a, Tensor& out) {
  with(a.type.kind, [&](auto from) {
    with(out.type.kind, [&](auto to) {
      using A = typename decltype(from)::type;
      using T = typename decltype(to)::type;
      const A* x = a.as<A>();
      T* y = out.as<T>();
      for (int64_t i = 0, n = out.type.size(); i < n; i++) y[i] = converted<T, Wide<A>>(x[i]);
    });
  });
}

bool typed(const Op& op, const Arguments& in, Tensor& out) {
  bool done = false;
  Kind k = in[0].type.kind;
  withFloat(k, [&](auto as) {
    using T = typename decltype(as)::type;
    done = in.size() == 1 ? unaryFloat<T>(op.name, in[0], out) : binaryFloat<T>(op.name, in[0], in[1], out);
  });
  withInteger(k, [&](auto as) {
    using T = typename decltype(as)::type;
    done = in.size() == 1 ? unaryInteger<T>(op.name, in[0], out) : binaryInteger<T>(op.name, in[0], in[1], out);
  });
  return k == Kind::i1 ? logical(op.name, in, out) : done;
}

}  // namespace

Results elementwise(const Op& op, const Arguments& in, const Books& books) {
  static const char* others[] = {"compare", "select", "clamp", "convert"};
  bool other = std::find(std::begin(others), std::end(others), op.name) != std::end(others);
  if (in.empty() || in.size() > 3 || (in.size() == 3 && !other)) return {};
  for (size_t i = 1; i < in.size() && !other; i++)
    if (in[i].type != in[0].type) return {};
  if (op.resultTypes.size() != 1 || (op.resultTypes[0].dims != in[other && in.size() == 3 ? 1 : 0].type.dims)) return {};
  Tensor out = make(books, op.resultTypes[0]);
  if (op.name == "compare") compare(op, in, out);
  else if (op.name == "select") select(in, out);
  else if (op.name == "clamp") clamp(in, out);
  else if (op.name == "convert") convert(in[0], out);
  else if (in.size() > 2 || !typed(op, in, out)) return {};
  return {out};
}

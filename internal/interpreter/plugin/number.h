// Element types: what StableHLO calls them, how they are stored, and in what they are computed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// Bf16 keeps the upper half of a float32, rounded to nearest, ties to even.
struct Bf16 {
  uint16_t bits;
  Bf16() = default;
  explicit Bf16(float x) {
    uint32_t b;
    std::memcpy(&b, &x, 4);
    bits = std::isnan(x) ? uint16_t(b >> 16 | 0x40) : uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16);
  }
  operator float() const {
    uint32_t b = uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &b, 4);
    return x;
  }
};

// F16 is IEEE's binary16.
struct F16 {
  uint16_t bits;
  F16() = default;
  explicit F16(float x) {
    uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    float m = std::fabs(x);
    if (std::isnan(x)) {
      bits = sign | 0x7e00;
    } else if (m >= 65520.0f) {  // half a step above the largest
      bits = sign | 0x7c00;
    } else {
      int e;
      std::frexp(m, &e);
      int step = std::fmax(e - 11, -24);  // exponent of the last place
      float units = std::nearbyint(std::ldexp(m, -step));
      bits = sign | (step == -24 ? uint16_t(units) : uint16_t(((step + 24) << 10) + units));
    }
  }
  operator float() const {
    int e = bits >> 10 & 31, f = bits & 1023;
    float m = e == 0 ? std::ldexp(float(f), -24) : e == 31 ? (f ? NAN : INFINITY) : std::ldexp(float(f + 1024), e - 25);
    return bits & 0x8000 ? -m : m;
  }
};

// Truth is one byte, 0 or 1.
struct Truth {
  uint8_t bits;
  Truth() = default;
  explicit Truth(bool x) : bits(x) {}
  operator bool() const { return bits != 0; }
};

enum class Kind { f64, f32, bf16, f16, i64, i32, i16, i8, u64, u32, u16, u8, i1 };

// Wide is the type in which elements are computed before they are rounded to their own.
template <class T> struct WideOf { using type = T; };
template <> struct WideOf<Bf16> { using type = float; };
template <> struct WideOf<F16> { using type = float; };
template <> struct WideOf<Truth> { using type = bool; };
template <class T> using Wide = typename WideOf<T>::type;

template <class T> struct As { using type = T; };

// withFloat, withInteger and with call f(As<T>{}) for the storage type T of a kind.
template <class F> bool withFloat(Kind k, F f) {
  switch (k) {
    case Kind::f64: f(As<double>{}); return true;
    case Kind::f32: f(As<float>{}); return true;
    case Kind::bf16: f(As<Bf16>{}); return true;
    case Kind::f16: f(As<F16>{}); return true;
    default: return false;
  }
}

template <class F> bool withInteger(Kind k, F f) {
  switch (k) {
    case Kind::i64: f(As<int64_t>{}); return true;
    case Kind::i32: f(As<int32_t>{}); return true;
    case Kind::i16: f(As<int16_t>{}); return true;
    case Kind::i8: f(As<int8_t>{}); return true;
    case Kind::u64: f(As<uint64_t>{}); return true;
    case Kind::u32: f(As<uint32_t>{}); return true;
    case Kind::u16: f(As<uint16_t>{}); return true;
    case Kind::u8: f(As<uint8_t>{}); return true;
    default: return false;
  }
}

template <class F> void with(Kind k, F f) {
  if (!withFloat(k, f) && !withInteger(k, f)) f(As<Truth>{});
}

inline bool isFloat(Kind k) { return k <= Kind::f16; }
inline bool isSigned(Kind k) { return k >= Kind::i64 && k <= Kind::i8; }
inline bool isInteger(Kind k) { return k >= Kind::i64 && k <= Kind::u8; }

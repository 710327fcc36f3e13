// Forward and the two halves of backward. A sample reads four rows of D channels, each a few registers long, so the inner
// loops are plain multiply-adds on contiguous memory. Shapes: see msda.h.
//
// Results do not depend on the number of threads: each output element is summed by one thread in a fixed order.

namespace msda {
namespace MSDA_ISA {

constexpr int ALL = 15;  // all four corners are on the map
// Images that fit into a core's caches are read without prefetching, which would take longer than it saves.
constexpr int64_t NEAR_BYTES = 8 << 20;

// Runs body(first channel, integral constant: number of registers) over channels [from, to), at most 4 registers at a time (8
// of the short ones), then tail(channel) for the channels that do not fill a register.
template <int N> struct Registers { static constexpr int count = N; };

template <class A, class Body, class Tail>
MSDA_INLINE void channels(int64_t from, int64_t to, Body body, Tail tail) {
  constexpr int most = MSDA_BYTES >= 64 ? 4 : 8;
  int64_t c = from;
  for (; to - c >= most * lanes<A>; c += most * lanes<A>) body(c, Registers<most>());
  for (; to - c >= 2 * lanes<A>; c += 2 * lanes<A>) body(c, Registers<2>());
  for (; to - c >= lanes<A>; c += lanes<A>) body(c, Registers<1>());
  for (; c < to; ++c) tail(c);
}

template <class A, class O>
MSDA_INLINE void narrow(const A* from, O* to, int64_t n) {
  int64_t i = 0;
  for (; i + lanes<A> <= n; i += lanes<A>) store(to + i, load(from + i));
  for (; i < n; ++i) to[i] = O(from[i]);
}

// Prefetches the rows of samples [begin, end) of the head whose values start at `from`.
template <class A, class T, class O>
MSDA_INLINE void prefetch(const Plan<A, O>& plan, const T* from, int64_t begin, int64_t end, int64_t row, int64_t channels) {
  for (int64_t s = begin; s < end; ++s) {
    for (int k = 0; k < 4; ++k) {
      const T* at = from + plan.position[k][s] * row;
      for (int64_t c = 0; c < channels; c += 64 / sizeof(T)) __builtin_prefetch(at + c);
    }
  }
}

template <class A, class T, class O>
void forward(const Problem& p, void* out, int64_t first, int64_t last) {
  Plan<A, O> plan(p);
  const int64_t samples = p.samples(), row = p.heads * p.channels;
  const bool far = p.positions * row * int64_t(sizeof(T)) > NEAR_BYTES;
  for (int64_t query = first; query < last; ++query) {
    T* to = static_cast<T*>(out) + query * row;
    const int64_t image = p.image_of(query);
    if (image < 0 || image >= p.images) {
      for (int64_t c = 0; c < row; ++c) to[c] = T(0);
      continue;
    }
    const T* value = static_cast<const T*>(p.value) + image * p.positions * row;
    plan.of(query, 0, p.heads);
    for (int64_t head = 0; head < p.heads; ++head) {
      const int64_t begin = head * samples, end = begin + samples;
      const T* from = value + head * p.channels;
      T* result = to + head * p.channels;
      if (far && head + 1 < p.heads) prefetch(plan, from + p.channels, end, end + samples, row, p.channels);
      channels<A>(0, p.channels, [&](int64_t c, auto registers) {
        constexpr int R = decltype(registers)::count;
        V<A> acc[R] = {};
        for (int64_t s = begin; s < end; ++s) {
          const auto add = [&](int k) {
            const T* at = from + plan.position[k][s] * row + c;
            for (int r = 0; r < R; ++r) acc[r] += plan.factor[k][s] * load(at + r * lanes<A>);
          };
          if (plan.inside[s] == ALL) {
            add(0), add(1), add(2), add(3);
          } else {  // a corner outside is not read: what stands there may not be a number
            for (int k = 0; k < 4; ++k) if (plan.inside[s] >> k & 1) add(k);
          }
        }
        for (int r = 0; r < R; ++r) store(result + c + r * lanes<A>, acc[r]);
      }, [&](int64_t c) {
        A acc = 0;
        for (int64_t s = begin; s < end; ++s)
          for (int k = 0; k < 4; ++k)
            if (plan.inside[s] >> k & 1) acc += plan.factor[k][s] * A(from[plan.position[k][s] * row + c]);
        result[c] = T(acc);
      });
    }
  }
}

// Gradients of points and weights of queries [first, last).
template <class A, class T, class O>
void backward_queries(const Problem& p, const void* grad, void* grad_points, void* grad_weights, int64_t first,
                      int64_t last) {
  Plan<A, O> plan(p);
  const int64_t samples = p.samples(), row = p.heads * p.channels, n = p.heads * samples;
  const Buffer<A> dots(4 * n), point_slopes(2 * n), weight_slopes(n);  // <corner's value, gradient>; d loss / d ...
  for (int64_t query = first; query < last; ++query) {
    O* to_points = static_cast<O*>(grad_points) + 2 * query * n;
    O* to_weights = static_cast<O*>(grad_weights) + query * n;
    const int64_t image = p.image_of(query);
    if (image < 0 || image >= p.images) {
      for (int64_t i = 0; i < n; ++i) to_points[2 * i] = to_points[2 * i + 1] = to_weights[i] = O(0);
      continue;
    }
    const T* value = static_cast<const T*>(p.value) + image * p.positions * row;
    const T* g = static_cast<const T*>(grad) + query * row;
    plan.of(query, 0, p.heads);
    for (int64_t i = 0; i < 4 * n; ++i) dots.data[i] = 0;
    for (int64_t head = 0; head < p.heads; ++head) {
      const int64_t begin = head * samples, end = begin + samples, offset = head * p.channels;
      channels<A>(offset, offset + p.channels, [&](int64_t c, auto registers) {
        constexpr int R = decltype(registers)::count;
        V<A> part[R];
        for (int r = 0; r < R; ++r) part[r] = load(g + c + r * lanes<A>);
        for (int64_t s = begin; s < end; ++s) {
          V<A> acc[4] = {};
          for (int k = 0; k < 4; ++k) {
            const T* at = value + plan.position[k][s] * row + c;
            for (int r = 0; r < R; ++r) acc[k] += part[r] * load(at + r * lanes<A>);
          }
          A piece[4];
          sums(acc, piece);
          for (int k = 0; k < 4; ++k) dots.data[4 * s + k] += piece[k];
        }
      }, [&](int64_t c) {
        for (int64_t s = begin; s < end; ++s)
          for (int k = 0; k < 4; ++k) dots.data[4 * s + k] += A(g[c]) * A(value[plan.position[k][s] * row + c]);
      });
    }
    for (int64_t s = 0; s < n; ++s) {
      A* dot = dots.data + 4 * s;
      if (plan.inside[s] != ALL)
        for (int k = 0; k < 4; ++k) if (!(plan.inside[s] >> k & 1)) dot[k] = 0;
      const A x = plan.x[s], y = plan.y[s], weight = plan.weight[s];
      weight_slopes.data[s] = (1 - y) * ((1 - x) * dot[0] + x * dot[1]) + y * ((1 - x) * dot[2] + x * dot[3]);
      point_slopes.data[2 * s] = weight * plan.scale_x[s] * ((1 - y) * (dot[1] - dot[0]) + y * (dot[3] - dot[2]));
      point_slopes.data[2 * s + 1] = weight * plan.scale_y[s] * ((1 - x) * (dot[2] - dot[0]) + x * (dot[3] - dot[1]));
    }
    if (p.reference) {  // through the softmax
      for (int64_t begin = 0; begin < n; begin += samples) {
        A mean = 0;
        for (int64_t s = begin; s < begin + samples; ++s) mean += plan.weight[s] * weight_slopes.data[s];
        for (int64_t s = begin; s < begin + samples; ++s)
          weight_slopes.data[s] = plan.weight[s] * (weight_slopes.data[s] - mean);
      }
    }
    narrow(point_slopes.data, to_points, 2 * n), narrow(weight_slopes.data, to_weights, n);
  }
}

// Gradient of value for channels [first, last), counted over all images one after the other: one thread owns a channel range
// of an image's rows and processes its queries in order. `sums` (B, S, M, D) must be zeros on entry.
template <class A, class T, class O>
void backward_value(const Problem& p, const void* grad, void* sums, int64_t first, int64_t last) {
  Plan<A, O> plan(p);
  const int64_t samples = p.samples(), row = p.heads * p.channels;
  for (int64_t image = first / row; image * row < last; ++image) {
    const int64_t from = first > image * row ? first - image * row : 0;
    const int64_t to = last < (image + 1) * row ? last - image * row : row;
    const int64_t first_head = from / p.channels, last_head = (to + p.channels - 1) / p.channels;
    const int64_t each = p.queries / p.images;
    A* rows = static_cast<A*>(sums) + image * p.positions * row;
    for (int64_t query = p.image ? 0 : image * each; query < (p.image ? p.queries : (image + 1) * each); ++query) {
      if (p.image && p.image[query] != image) continue;
      const T* g = static_cast<const T*>(grad) + query * row;
      plan.of(query, first_head, last_head);
      for (int64_t head = first_head; head < last_head; ++head) {
        const int64_t begin = (head - first_head) * samples, end = begin + samples;
        const int64_t left = head * p.channels > from ? head * p.channels : from;
        const int64_t right = (head + 1) * p.channels < to ? (head + 1) * p.channels : to;
        channels<A>(left, right, [&](int64_t c, auto registers) {
          constexpr int R = decltype(registers)::count;
          V<A> part[R];
          for (int r = 0; r < R; ++r) part[r] = load(g + c + r * lanes<A>);
          for (int64_t s = begin; s < end; ++s) {
            for (int k = 0; k < 4; ++k) {
              if (!(plan.inside[s] >> k & 1)) continue;
              A* at = rows + plan.position[k][s] * row + c;
              for (int r = 0; r < R; ++r)
                store(at + r * lanes<A>, load(at + r * lanes<A>) + plan.factor[k][s] * part[r]);
            }
          }
        }, [&](int64_t c) {
          for (int64_t s = begin; s < end; ++s)
            for (int k = 0; k < 4; ++k)
              if (plan.inside[s] >> k & 1) rows[plan.position[k][s] * row + c] += plan.factor[k][s] * A(g[c]);
        });
      }
    }
  }
}

template <class A, class T, class O>
Kernels kernels_for() {
  return {&forward<A, T, O>, &backward_queries<A, T, O>, &backward_value<A, T, O>};
}

Kernels kernels(Type value, Type point) {
  switch (value) {
    case Type::f64: return kernels_for<double, double, double>();
    case Type::f32: return kernels_for<float, float, float>();
    case Type::f16: return point == Type::f32 ? kernels_for<float, Half, float>() : kernels_for<float, Half, Half>();
    default: return point == Type::f32 ? kernels_for<float, BFloat16, float>() : kernels_for<float, BFloat16, BFloat16>();
  }
}

}  // namespace MSDA_ISA
}  // namespace msda

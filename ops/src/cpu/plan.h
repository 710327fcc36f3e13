// Positions and factors of one query's samples: softmax, pixel coordinates and bilinear factors of some of its heads. They are
// stored in small arrays with one entry per sample, so that they are computed a register at a time.
namespace msda {
namespace MSDA_ISA {

// A zero-initialised array. Not std::vector: the linker could share its code compiled here, for an instruction set that the
// processor may lack, with the rest of the process.
template <class E>
struct Buffer {
  E* const data;
  explicit Buffer(int64_t n) : data(new E[n]()) {}
  Buffer(const Buffer&) = delete;
  ~Buffer() { delete[] data; }
};

// A: float or double, O: the type of points and weights.
template <class A, class O>
class Plan {
 public:
  typedef typename Types<A>::I I;

  // Entry i of head h is at h * samples + i; n of them are filled by `of`. Corner k is (top, left), (top, right),
  // (bottom, left), (bottom, right).
  A* weight;       // attention weight
  A* x;            // offsets of the sample from its top left corner, in [0, 1)
  A* y;
  A* factor[4];    // bilinear factor times attention weight, 0 for a corner outside the map
  I* position[4];  // of the corner in S; a valid position also for a corner outside the map
  I* inside;       // bit k: corner k lies on the map
  A* scale_x;      // pixels per unit of the sample's point
  A* scale_y;

  explicit Plan(const Problem& problem)
      : p(problem), samples(p.samples()), padded((p.heads * samples + lanes<A> - 1) / lanes<A> * lanes<A>),
        real(15 * padded), whole(7 * padded) {
    A* a = real.data;
    for (A** array : {&weight, &x, &y, &factor[0], &factor[1], &factor[2], &factor[3], &width, &height, &scale_x, &scale_y,
                      &base_x, &base_y}) {
      *array = a, a += padded;
    }
    raw = a;
    I* i = whole.data;
    for (I** array : {&position[0], &position[1], &position[2], &position[3], &inside, &row, &start}) *array = i, i += padded;
    for (int64_t e = 0; e < padded; ++e) {  // these tables repeat for every head; the padding is harmless
      int64_t first = 0;
      const int64_t level = e % samples / p.points_per_level;
      for (int64_t l = 0; l < level; ++l) first += p.shapes[2 * l] * p.shapes[2 * l + 1];
      height[e] = p.shapes[2 * level], width[e] = p.shapes[2 * level + 1];
      row[e] = p.shapes[2 * level + 1], start[e] = first;
      scale_x[e] = p.reference ? A(1) : width[e], scale_y[e] = p.reference ? A(1) : height[e];
      base_x[e] = base_y[e] = A(-0.5);
    }
  }

  // Computes the entries of heads first .. last - 1 of a query.
  void of(int64_t query, int64_t first, int64_t last) {
    const int64_t offset = (query * p.heads + first) * samples, n = (last - first) * samples;
    const A* points = widen(static_cast<const O*>(p.points) + 2 * offset, 2 * n);
    if (p.reference) refer(query);
    for (int64_t h = 0; h < n; h += samples) {
      for (int64_t i = 0; i < samples; ++i) {
        x[h + i] = points[2 * (h + i)] * scale_x[i] + base_x[i];
        y[h + i] = points[2 * (h + i) + 1] * scale_y[i] + base_y[i];
      }
    }
    memcpy(weight, widen(static_cast<const O*>(p.weights) + offset, n), n * sizeof(A));
    if (p.reference) softmax(n);
    for (int64_t i = 0; i < n; i += lanes<A>) corners(i);
  }

 private:
  const Problem& p;
  const int64_t samples, padded;
  Buffer<A> real;
  Buffer<I> whole;
  A *width, *height, *base_x, *base_y, *raw;
  I *row, *start;

  const A* widen(const A* from, int64_t) { return from; }
  template <class Narrow>
  const A* widen(const Narrow* from, int64_t n) {
    int64_t i = 0;
    for (; i + lanes<A> <= n; i += lanes<A>) store(raw + i, load(from + i));
    for (; i < n; ++i) raw[i] = A(from[i]);
    return raw;
  }

  void refer(int64_t query) {
    const A* reference = static_cast<const A*>(p.reference) + query % p.reference_rows * p.reference_levels * 2;
    for (int64_t i = 0; i < samples; ++i) {
      const A* at = reference + (p.reference_levels == 1 ? 0 : i / p.points_per_level * 2);
      base_x[i] = at[0] * width[i] - A(0.5), base_y[i] = at[1] * height[i] - A(0.5);
    }
  }

  void softmax(int64_t n) {
    for (A* head = weight; head < weight + n; head += samples) {
      A most = head[0];
      for (int64_t i = 1; i < samples; ++i) most = head[i] > most ? head[i] : most;
      for (int64_t i = 0; i < samples; ++i) head[i] -= most;
    }
    for (int64_t i = 0; i < n; i += lanes<A>) store(weight + i, exp_of_negative(load(weight + i)));
    for (A* head = weight; head < weight + n; head += samples) {
      A total = 0;
      for (int64_t i = 0; i < samples; ++i) total += head[i];
      const A share = 1 / total;
      for (int64_t i = 0; i < samples; ++i) head[i] *= share;
    }
  }

  // Handles one register of samples, starting at `at`. A comparison with NaN is false, so NaN counts as outside.
  void corners(int64_t at) {
    typedef V<A> F;
    typedef VI<A> N;
    const F w = load(width + at), h = load(height + at), px = load(x + at), py = load(y + at);
    const N near = (px > -1) & (px < w) & (py > -1) & (py < h);
    F left, top;
    const F right_part = split(near ? px : F{}, left), lower_part = split(near ? py : F{}, top);
    const N on_left = near & (left >= 0), on_right = near & (left + 1 < w);
    const N on_top = near & (top >= 0), on_bottom = near & (top + 1 < h);
    const F a = load(weight + at);
    const F x0 = on_left ? 1 - right_part : F{}, x1 = on_right ? right_part : F{};
    const F y0 = on_top ? (1 - lower_part) * a : F{}, y1 = on_bottom ? lower_part * a : F{};
    store(x + at, right_part), store(y + at, lower_part);
    store(factor[0] + at, x0 * y0), store(factor[1] + at, x1 * y0);
    store(factor[2] + at, x0 * y1), store(factor[3] + at, x1 * y1);

    const N columns = bits<N>(row + at), column = __builtin_convertvector(left, N);
    const N origin = bits<N>(start + at), line = __builtin_convertvector(top, N);
    const N first = on_left ? column : N{}, second = on_right ? column + 1 : first;
    const N upper = origin + (on_top ? line : N{}) * columns;
    const N lower = origin + (on_bottom ? line + 1 : (on_top ? line : N{})) * columns;
    put(position[0] + at, upper + first), put(position[1] + at, upper + second);
    put(position[2] + at, lower + first), put(position[3] + at, lower + second);
    put(inside + at, (on_top & on_left & 1) | (on_top & on_right & 2) | (on_bottom & on_left & 4) |
                         (on_bottom & on_right & 8));
  }

  // Splits v into its floor and the fraction, which is returned; |v| is below 2^31.
  static V<A> split(V<A> v, V<A>& floor) {
    floor = __builtin_convertvector(__builtin_convertvector(v, VI<A>), V<A>);
    floor = (floor > v) ? floor - 1 : floor;
    return v - floor;
  }

  static void put(I* p, VI<A> v) { memcpy(p, &v, sizeof v); }
};

}  // namespace MSDA_ISA
}  // namespace msda

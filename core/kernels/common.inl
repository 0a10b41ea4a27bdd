// What all kernels share: whole numbers, loops over vectors with their tails, memory that lives as long as its thread.

constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }
constexpr int64_t round_up(int64_t n, int64_t unit) { return pieces(n, unit) * unit; }

template <class F>
void run_tasks(bool parallel, int64_t n, F&& f) {
  if (parallel) return parallel_tasks(n, f);
  for (int64_t i = 0; i < n; ++i) f(i);
}

// Memory for panels: grows as needed, belongs to its thread, lives as long. From some size on in a huge page of its own: scattered small ones
// fall on the same sets of L2 by chance, which made products up to 10 % slower in some runs. (Sanitizers see the end of what was asked for.)
#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t huge_page = 0;
#else
constexpr int64_t huge_page = 2 << 20;
#endif
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { __builtin_free(data_); }
  template <class T>
  T* get(int64_t count) {
    int64_t bytes = count * int64_t(sizeof(T));
    if (bytes > size_) {
      if (bytes >= huge_page / 32) bytes = most(bytes, huge_page);
      __builtin_free(data_);
      size_ = 0;
      data_ = system_memory(size_t(bytes));
      if (!data_) throw std::bad_alloc();
      size_ = bytes;
    }
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  int64_t size_ = 0;
};
thread_local Scratch scratch_a, scratch_b, scratch_sums;

// How a loop over vectors touches memory: whole vectors, and what is left at the end.
struct Whole {
  V load(const float* p) const { return QD_KERNEL_NAMESPACE::load(p); }
  void store(float* p, V x) const { QD_KERNEL_NAMESPACE::store(p, x); }
  V only(V x) const { return x; }
};
struct Rest {
  int64_t count;
  V load(const float* p) const { return load_some(p, count); }
  void store(float* p, V x) const { store_some(p, x, count); }
  V only(V x) const { return lane_numbers() < set1i(int32_t(count)) ? x : zero(); }   // zeros in the lanes that do not exist
};

// f(i, lanes) for i = begin, begin + W, ...; every lane is computed the same way wherever a range begins.
template <class F>
inline void vectors(int64_t begin, int64_t end, F&& f) {
  for (; begin + W <= end; begin += W) f(begin, Whole{});
  if (begin < end) f(begin, Rest{end - begin});
}

constexpr int64_t grain = 1 << 14;   // elements that are worth a thread

template <class F>
void each(int64_t n, F&& f) {
  parallel_for(n, grain, [=](int64_t begin, int64_t end) { vectors(begin, end, f); });
}

// f(row) for all rows of `cols` elements
template <class F>
void each_row(int64_t rows, int64_t cols, F&& f) {
  parallel_for(rows, most(1, grain / 4 / most(cols, 1)), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r);
  });
}

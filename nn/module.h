// Modules: named trees of parameters and buffers. A member registers itself in its parent by address and name,
//   Linear fc{*this, "fc", in, out};
// so the path of a parameter is the path of the members that lead to it, and the names in files are those paths.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"
#include "core/state.h"
#include "core/tensor.h"

namespace qd {

class Parameter;
class Buffer;

// All parameters of a tree in two flat arrays, decayed ones first, each starting on a cache line: optimisers sweep over them in one go.
struct Arena {
  Tensor values, gradients;                                    // (n), (n)
  int64_t decayed = 0;                                         // values[0, decayed) belong to parameters with weight decay
  std::vector<Parameter*> order;                               // as they lie in the arena
};

class Module {
 public:
  Module() = default;                                          // a root
  Module(Module& parent, std::string name);                    // a member
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  std::vector<Parameter*> parameters();                        // of the whole tree, in order of construction
  std::vector<Buffer*> buffers();
  std::string path() const;                                    // "h.0.attn"; empty for the root
  int64_t parameter_count();                                   // numbers, not tensors

  void train(bool on = true);                                  // dropout on, moving averages updated
  void evaluate() { train(false); }
  bool training() const { return training_; }

  void initialize(uint64_t seed);                              // every parameter, and buffer with an Init, from (seed, its path): independent of order
  const Arena& arena();                                        // of a root; the first call moves values and gradients into it. Without
                                                               // frozen parameters: those whose value was replaced by value.detach()
  void pack();                                                 // the values alone: a model that is used, not trained, reads one run of memory
  void clear_gradients();                                      // nothing is written: the next backward overwrites
  void settle_gradients();                                     // zeros for parameters that no gradient has reached

  // Strict: loading throws Error with every missing, extra or misshapen name. Names are paths.
  void save(State& to) const;
  void load(const State& from);
  // The same for tensors that are read one at a time: `given` says what there is, `read` gives the tensor of a name.
  struct Kind {
    Shape shape;
    DType dtype;
  };
  void load(const std::map<std::string, Kind>& given, const std::function<Tensor(const std::string&)>& read);

 private:
  friend class Parameter;
  friend class Buffer;
  template <class F> void visit(F&& f);
  void expect_new(const std::string& name) const;
  Module* parent_ = nullptr;
  std::string name_;
  std::vector<Module*> children_;
  std::vector<Parameter*> parameters_;
  std::vector<Buffer*> buffers_;
  Arena arena_;
  bool training_ = true;
};

// How a parameter starts: fills `value` from `random`.
using Init = std::function<void(Tensor& value, Random& random)>;
Init normal(double deviation);                                 // N(0, deviation^2)
Init uniform(double limit);                                    // U(-limit, limit)
Init xavier(int64_t fan_in, int64_t fan_out, double gain = 1); // U(+-gain sqrt(6 / (fan_in + fan_out))), Glorot and Bengio 2010
Init constant(double value);
// A packed matrix (rows, w_1 + w_2 + ...): each range of columns from an initialiser of its own, as if it stood alone.
Init side_by_side(std::vector<std::pair<int64_t, Init>> columns);

class Parameter {
 public:
  Parameter(Module& parent, std::string name, const Shape& shape, Init init);
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  Tensor value;                                                // a leaf
  operator const Tensor&() const { return value; }
  std::string path() const;
  bool decays() const { return value.rank() >= 2; }            // weight decay is for matrices, not for biases and norms
  Init init;

 private:
  friend class Module;
  Module& parent_;
  std::string name_;
};

// A tensor that is saved with the parameters but has no gradient: running means, codebooks.
class Buffer {
 public:
  Buffer(Module& parent, std::string name, Tensor initial);
  Buffer(Module& parent, std::string name, const Shape& shape, Init init);   // initialize() starts it like a parameter
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Tensor value;
  std::string path() const;
  Init init;                                                   // may be empty

 private:
  friend class Module;
  Module& parent_;
  std::string name_;
};

// `count` modules named 0, 1, 2, ...:   ModuleList<Block> h{*this, "h", layers, config};
template <class M>
class ModuleList : public Module {
 public:
  template <class... Args>
  ModuleList(Module& parent, std::string name, int64_t count, const Args&... args) : Module(parent, std::move(name)) {
    for (int64_t i = 0; i < count; ++i) items_.push_back(std::make_unique<M>(*this, std::to_string(i), args...));
  }
  int64_t size() const { return static_cast<int64_t>(items_.size()); }
  M& operator[](int64_t i) { return *items_[static_cast<size_t>(i)]; }
  const M& operator[](int64_t i) const { return *items_[static_cast<size_t>(i)]; }

 private:
  std::vector<std::unique_ptr<M>> items_;
};

}  // namespace qd

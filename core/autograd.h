// Reverse-mode automatic differentiation. An op computes its output and records a closure that sends the output's gradient to its inputs;
// backward() runs the closures newest first. Nothing is lazy and nothing recursive.
//
//   Tensor silu(const Tensor& x) {
//     Tensor y = empty_like(x);
//     kernels().unary(Unary::silu, x.size(), x.data(), y.mutable_data());
//     return record("silu", y, {x}, [x = Saved(x)](const Tensor& dy, Sink& to) {
//       if (to.wants(0)) { auto [dx, add] = to.into(0); kernels().unary_gradient(Unary::silu, dy.size(), x->data(), dy.data(), dx, add); }
//     });
//   }
#pragma once

#include <functional>
#include <initializer_list>
#include <optional>
#include <vector>

#include "core/profile.h"
#include "core/tensor.h"

namespace qd {

// Where a closure writes the gradient of one input: the whole of it when !add, added to what is there when add.
struct Destination {
  float* data;
  bool add;
};

class Sink;

// A recorded op, or a leaf (a parameter). Numbers grow with creation; inputs without gradient are null.
struct Node : Counted {
  explicit Node(const char* name);
  virtual ~Node();
  virtual void run(const Tensor&, Sink&) {}
  virtual void free_closure() {}         // and what it saved

  const char* name;
  uint64_t number;
  std::vector<Ref<Node>> inputs;
  Shape shape;                           // of the output, and so of the gradient
  Tensor gradient;                       // what has arrived so far; for a parameter a window on the gradient arena
  bool leaf = false, touched = false;    // touched: the gradient holds something
  bool done = false;                     // backward went through
  Node* next_freed = nullptr;            // release() needs no memory
};
int64_t live_nodes();                    // for leak tests

class Sink {
 public:
  Sink(Node& node, std::vector<Ref<Node>>& queue, uint64_t oldest) : node_(node), queue_(queue), oldest_(oldest) {}
  bool wants(int input) const { return static_cast<bool>(node_.inputs[input]); }
  Destination into(int input);           // memory of the input's shape
  void give(int input, Tensor gradient); // hands a tensor over, shared where possible: x + y gives dy to both

 private:
  Node& schedule(int input);
  Node& node_;
  std::vector<Ref<Node>>& queue_;
  uint64_t oldest_;
};

// What a closure keeps of the forward pass: the numbers without their graph, and the assurance that nobody has written them since.
// Reading a saved tensor that was written (by an optimiser step, say) throws. Saving an output this way is no leak.
class Saved {
 public:
  Saved(const Tensor& x) : tensor_(x.detach()), writes_(count()) {}
  const Tensor& get() const {
    if (count() != writes_) [[unlikely]] written();
    return tensor_;
  }
  const Tensor* operator->() const { return &get(); }
  const Tensor& operator*() const { return get(); }

 private:
  uint32_t count() const {               // writes of its own storage, and through the arena that it is a window on
    if (!tensor_.defined()) return 0;
    const Storage& s = *tensor_.storage();
    return s.writes + (s.arena ? s.arena->writes : 0);
  }
  [[noreturn]] void written() const;
  Tensor tensor_;
  uint32_t writes_;
};

// An input of record(): refers to the caller's tensor, which outlives the call.
struct Input {
  Input(const Tensor& x) : tensor(&x) {}
  const Tensor* tensor;
};
using Inputs = std::initializer_list<Input>;

template <class F>
struct Closure final : Node {
  Closure(const char* name, F&& f) : Node(name), f(std::move(f)) {}
  void run(const Tensor& dy, Sink& to) override { (*f)(dy, to); }
  void free_closure() override { f.reset(); }
  std::optional<F> f;
};

bool records(Inputs inputs);             // gradients are on and one of the inputs needs one
Tensor attach(Tensor y, Inputs inputs, Ref<Node> node);
void check_finite(const char* name, const Tensor& y);
void profile_op(const char* name, const Tensor& y, Inputs inputs);   // ends the forward part of an op while profiling; views are no work
extern bool check_every_op;              // QD_CHECK=1: each op's output is looked at; the first non-finite value throws and names the op

// Ends every differentiable op: y is its output, `backward(dy, to)` sends dy on to `inputs`.
template <class F>
Tensor record(const char* name, Tensor y, Inputs inputs, F backward) {
  if (check_every_op) [[unlikely]] check_finite(name, y);
  if (is_profiling()) [[unlikely]] profile_op(name, y, inputs);
  if (!records(inputs)) return y;
  return attach(std::move(y), inputs, Ref<Node>(new Closure<F>(name, std::move(backward))));
}

// Ends every op that has no gradient: asking for one throws and names the op. No gradient ever stops silently.
Tensor no_gradient(const char* name, Tensor y, Inputs inputs);

// Gradients of y with respect to every leaf that it depends on are added to those leaves. dy: (shape of y), by default 1 for a scalar.
// Throws when y depends on no leaf, when the graph was used before, and when a saved tensor was written since.
void backward(const Tensor& y, const Tensor& dy = {});

// While one lives, ops record nothing in this thread.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;

 private:
  bool before_;
};
bool gradients_enabled();

// f(inputs) without keeping what happens inside: backward computes it a second time, with the same random numbers, and gives bit-identical
// gradients (Chen et al. 2016). Every tensor with a gradient that f uses must be an input or a parameter; anything else throws in backward,
// and so does a second run with another result (weights written since, another mode).
Tensor checkpoint(std::function<Tensor(const std::vector<Tensor>&)> f, const std::vector<Tensor>& inputs);
bool recomputing();                      // inside the second run: buffers (running means, codebooks) must not be updated again

// For your own ops: ||g - g'|| / ||g'|| of the gradient of sum(f(x) * r), r random, against central differences with step h along random
// directions (f32 arithmetic: expect 1e-3 or better).
double check_gradient(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, double h = 1e-2);

}  // namespace qd

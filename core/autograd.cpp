#include "core/autograd.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/kernels/table.h"
#include "core/random.h"

namespace qd {
namespace {

std::atomic<int64_t> nodes{0};
std::atomic<uint64_t> next_number{1};
thread_local bool enabled = true;
thread_local bool second_run = false;
thread_local const char* running = "backward";   // the op whose closure runs, for messages

constexpr const char* stale_hint = "compute the loss again before a second backward";

bool newer(const Ref<Node>& a, const Ref<Node>& b) { return a->number < b->number; }   // the heap's top has the largest number

// A gradient that anyone else holds is copied before something is added to it. A parameter's place in the arena is its own.
void make_unique(Node& target) {
  const Storage& storage = *target.gradient.storage();
  if (target.leaf && storage.arena) return;
  if (storage.owners.load(std::memory_order_acquire) > 1 || storage.arena) target.gradient = target.gradient.clone();
}

struct NoGradient final : Node {
  using Node::Node;
  void run(const Tensor&, Sink&) override {
    fail(name, "expected no gradient to be asked for: this op cannot be differentiated", "detach() its input if that is meant");
  }
};

// Runs the closures of everything that y depends on, newest first. Nodes older than `oldest` may only be leaves.
void run_backward(const Tensor& y, const Tensor& dy, uint64_t oldest) {
  const Ref<Node>& root = y.node();
  QD_CHECK(root, "backward", "expected a tensor that depends on a parameter, got one without gradient",
           "was it computed under NoGrad, or from detached tensors?");
  QD_CHECK(dy.defined() ? dy.shape() == y.shape() : y.size() == 1, "backward",
           str("expected a gradient of shape ", y.shape().str(), dy.defined() ? ", got " + dy.shape().str() : ", got none"),
           "only a tensor of one element has a gradient of 1 by default");
  const Tensor seed = dy.defined() ? dy.detach() : full(y.shape(), 1);
  // After an exception what still waits has lost its gradient: it must not be used again.
  struct Queue {
    std::vector<Ref<Node>> nodes;
    ~Queue() {
      running = "backward";
      for (const Ref<Node>& node : nodes) node->done = true, node->gradient = {};
    }
  } waiting;
  std::vector<Ref<Node>>& queue = waiting.nodes;
  QD_CHECK(seed.dtype() == DType::f32, "backward", str("expected an f32 gradient, got ", name_of(seed.dtype())));
  if (root->leaf) {
    Node identity("identity");
    identity.inputs = {root};
    Sink(identity, queue, 0).give(0, seed);
    return;
  }
  QD_CHECK(!root->done, root->name, "expected a fresh graph, got one whose saved tensors backward has freed", stale_hint);
  root->gradient = seed;
  root->touched = true;
  queue.push_back(root);
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), newer);
    const Ref<Node> node = std::move(queue.back());
    queue.pop_back();
    const Tensor arrived = std::move(node->gradient);
    node->gradient = {};
    Sink to(*node, queue, oldest);
    running = node->name;
    node->done = true;   // whether or not its closure throws
    {
      const ProfiledOp scope(node->name, Pass::backward, &node->shape);
      node->run(arrived, to);
    }
    node->free_closure();
    node->inputs.clear();
  }
}

}  // namespace

bool check_every_op = [] {
  const char* value = std::getenv("QD_CHECK");
  return value && *value && *value != '0';
}();

Node::Node(const char* name) : name(name), number(next_number.fetch_add(1, std::memory_order_relaxed)) { ++nodes; }
Node::~Node() { --nodes; }
int64_t live_nodes() { return nodes; }

void retain(Node* node) { node->add_owner(); }

// A chain of nodes dies one by one: a node freed while another is being freed waits in a list instead of going deeper into the stack.
void release(Node* node) noexcept {
  if (!node->drop_owner()) return;
  thread_local Node* waiting = nullptr;   // a list through next_freed: nothing is allocated, and nothing destroyed before static tensors
  thread_local bool active = false;
  node->next_freed = waiting;
  waiting = node;
  if (active) return;
  active = true;
  while (waiting) delete std::exchange(waiting, waiting->next_freed);
  active = false;
}

Node& Sink::schedule(int input) {
  const Ref<Node>& target = node_.inputs[static_cast<size_t>(input)];
  QD_CHECK(target, node_.name, str("expected to be asked for wanted gradients only, got input ", input));
  QD_CHECK(!target->done, target->name, "expected a fresh graph, got one whose saved tensors backward has freed", stale_hint);
  if (!target->touched && !target->leaf) {
    QD_CHECK(target->number >= oldest_, "checkpoint",
             str("expected every tensor with a gradient to be an input of checkpoint(), got the output of '", target->name, "' from outside"),
             "pass it in `inputs`, or detach() it");
    queue_.push_back(target);
    std::push_heap(queue_.begin(), queue_.end(), newer);
  }
  return *target;
}

Destination Sink::into(int input) {
  Node& target = schedule(input);
  const bool add = std::exchange(target.touched, true);
  if (!target.gradient.defined()) {
    target.gradient = empty(target.shape);
  } else {
    make_unique(target);
  }
  return {target.gradient.mutable_data(), add};
}

void Sink::give(int input, Tensor gradient) {
  Node& target = schedule(input);
  QD_CHECK(gradient.shape() == target.shape, node_.name,
           str("expected a gradient of shape ", target.shape.str(), " for input ", input, ", got ", gradient.shape().str()));
  if (target.touched) {
    make_unique(target);
    kernels().scale_add(gradient.size(), 1, gradient.data(), target.gradient.mutable_data());
  } else if (target.gradient.defined()) {
    target.gradient.copy_from(gradient);
  } else {
    target.gradient = gradient.detach();
  }
  target.touched = true;
}

void Saved::written() const {
  fail(running, str("expected a saved tensor ", tensor_.shape().str(), " as the forward pass left it, but it was written since"),
       "call backward before the optimiser step or buffer update");
}

bool records(Inputs inputs) {
  return enabled && std::any_of(inputs.begin(), inputs.end(), [](const Input& x) { return x.tensor->needs_gradient(); });
}

Tensor attach(Tensor y, Inputs inputs, Ref<Node> node) {
  QD_CHECK(y.dtype() == DType::f32, node->name, str("expected an f32 output, got ", name_of(y.dtype())));
  node->shape = y.shape();
  node->inputs.reserve(inputs.size());
  for (const Input& x : inputs) node->inputs.push_back(x.tensor->node());
  y.set_node(std::move(node));
  return y;
}

void check_finite(const char* name, const Tensor& y) {
  QD_CHECK(y.dtype() != DType::f32 || kernels().all_finite(y.size(), y.data()), name,
           str("expected finite values, got NaN or infinity in its output ", y.shape().str()));
}

void profile_op(const char* name, const Tensor& y, Inputs inputs) {
  const bool view = std::any_of(inputs.begin(), inputs.end(), [&](const Input& x) { return x.tensor->storage().get() == y.storage().get(); });
  if (!view) profile_forward(name, second_run ? Pass::again : Pass::forward, y.shape());
}

Tensor no_gradient(const char* name, Tensor y, Inputs inputs) {
  if (check_every_op) [[unlikely]] check_finite(name, y);
  if (is_profiling()) [[unlikely]] profile_op(name, y, inputs);
  if (!records(inputs) || y.dtype() != DType::f32) return y;   // integers carry no gradient by type
  return attach(std::move(y), inputs, Ref<Node>(new NoGradient(name)));
}

void backward(const Tensor& y, const Tensor& dy) { run_backward(y, dy, 0); }

NoGrad::NoGrad() : before_(std::exchange(enabled, false)) {}
NoGrad::~NoGrad() { enabled = before_; }
bool gradients_enabled() { return enabled; }
bool recomputing() { return second_run; }

namespace {

// Sets a value and puts the old one back, exceptions included.
template <class T>
class Restore {
 public:
  Restore(T& variable, T value) : variable_(variable), before_(std::exchange(variable, value)) {}
  ~Restore() { variable_ = before_; }
  Restore(const Restore&) = delete;

 private:
  T& variable_;
  T before_;
};

}  // namespace

namespace {

// A number that changes with every bit of x and with their order.
uint64_t digest(const Tensor& x) {
  uint64_t sum = 0, weighted = 0;
  const float* p = x.data();
  for (int64_t i = 0; i < x.size(); ++i) {
    const uint64_t bits = std::bit_cast<uint32_t>(p[i]);
    sum += bits;
    weighted += bits * (2 * static_cast<uint64_t>(i) + 1);
  }
  return sum * 0x9E3779B97F4A7C15 ^ weighted;
}

}  // namespace

Tensor checkpoint(std::function<Tensor(const std::vector<Tensor>&)> f, const std::vector<Tensor>& inputs) {
  if (!enabled) return f(inputs);
  const RandomState random = random_state();
  Tensor y;
  {
    NoGrad off;
    y = f(inputs).detach();
  }
  auto again = [f = std::move(f), random, before = digest(y), saved = std::vector<Saved>(inputs.begin(), inputs.end())](const Tensor& dy, Sink& to) {
    std::vector<Tensor> copies;
    for (size_t i = 0; i < saved.size(); ++i) {
      copies.push_back(saved[i].get().detach());
      if (to.wants(static_cast<int>(i))) copies.back().require_gradient();
    }
    const uint64_t oldest = next_number.load(std::memory_order_relaxed);
    Tensor y;
    {
      Restore replay(random_state(), random);
      Restore mark(second_run, true);
      Restore grad(enabled, true);
      y = f(copies);
    }
    QD_CHECK(digest(y) == before, "checkpoint", "expected the second run to give what the first gave, its result differs",
             "call backward before weights are written or the mode is changed");
    if (y.needs_gradient()) run_backward(y, dy, oldest);
    for (size_t i = 0; i < copies.size(); ++i)
      if (copies[i].needs_gradient() && copies[i].node()->touched) to.give(static_cast<int>(i), copies[i].gradient());
  };
  // Parameters inside f are leaves of their own: record even when no input needs a gradient.
  if (check_every_op) [[unlikely]] check_finite("checkpoint", y);
  Ref<Node> node(new Closure<decltype(again)>("checkpoint", std::move(again)));
  node->shape = y.shape();
  for (const Tensor& x : inputs) node->inputs.push_back(x.node());
  y.set_node(std::move(node));
  return y;
}

double check_gradient(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, double h) {
  Random random(1, 0);
  auto like = [&](const Shape& shape) {
    Tensor out = empty(shape);
    for (float& value : std::span(out.mutable_data(), static_cast<size_t>(out.size()))) value = static_cast<float>(random.normal());
    return out;
  };
  auto dot = [](const Tensor& a, const Tensor& b) {
    double total = 0;
    for (int64_t i = 0; i < a.size(); ++i) total += static_cast<double>(a.data()[i]) * b.data()[i];
    return total;
  };
  Tensor leaf = x.clone();
  leaf.require_gradient();
  const Tensor y = f(leaf), weights = like(y.shape());
  backward(y, weights);
  double difference = 0, norm = 0;
  for (int trial = 0; trial < 8; ++trial) {
    const Tensor direction = like(x.shape());
    auto value_at = [&](double step) {
      NoGrad off;
      Tensor moved = x.clone();
      kernels().scale_add(x.size(), static_cast<float>(step), direction.data(), moved.mutable_data());
      return dot(f(moved), weights);
    };
    const double numeric = (value_at(h) - value_at(-h)) / (2 * h), exact = dot(leaf.gradient(), direction);
    difference += (numeric - exact) * (numeric - exact);
    norm += numeric * numeric;
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

// Tensor's part

Tensor& Tensor::require_gradient() {
  QD_CHECK(defined() && dtype_ == DType::f32, "require_gradient", "expected an f32 tensor");
  if (node_ && node_->leaf) return *this;
  QD_CHECK(!node_, "require_gradient", str("expected a tensor outside of the graph, got the output of '", node_->name, "'"), "detach() it");
  Ref<Node> leaf(new Node("leaf"));
  leaf->leaf = true;
  leaf->shape = shape_;
  node_ = std::move(leaf);
  return *this;
}

Tensor Tensor::gradient() const {
  QD_CHECK(node_ && node_->leaf, "gradient", "expected a leaf: a parameter, or a tensor after require_gradient()");
  if (!node_->touched) {
    if (!node_->gradient.defined()) node_->gradient = empty(shape_);
    std::fill_n(node_->gradient.mutable_data(), size(), 0.0f);
    node_->touched = true;
  }
  return node_->gradient;
}

void Tensor::clear_gradient() {
  if (!node_ || !node_->leaf) return;
  node_->touched = false;
  if (node_->gradient.defined() && !node_->gradient.storage()->arena) node_->gradient = {};
}

void Tensor::backward() const { qd::backward(*this); }

}  // namespace qd

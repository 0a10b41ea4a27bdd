#include "nn/module.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "core/autograd.h"
#include "core/error.h"

namespace qd {
namespace {

std::string join(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

// "3 missing: a, b, c; ..." for strict loading; long lists are cut.
std::string list(const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string out = str("\n  ", names.size(), " ", what, ": ");
  constexpr size_t shown = 12;
  for (size_t i = 0; i < std::min(names.size(), shown); ++i) out += (i ? ", " : "") + names[i];
  return names.size() > shown ? out + ", ..." : out;
}

}  // namespace

Module::Module(Module& parent, std::string name) : parent_(&parent), name_(std::move(name)) {
  parent.expect_new(name_);
  parent.children_.push_back(this);
}

// Two members of one name would share a place in files.
void Module::expect_new(const std::string& name) const {
  const auto taken = [&](const auto& members) {
    return std::any_of(members.begin(), members.end(), [&](const auto* member) { return member->name_ == name; });
  };
  QD_CHECK(!taken(children_) && !taken(parameters_) && !taken(buffers_), "module",
           str("expected every member of '", path(), "' to have a name of its own, got '", name, "' twice"));
}

template <class F>
void Module::visit(F&& f) {
  f(*this);
  for (Module* child : children_) child->visit(f);
}

std::string Module::path() const { return parent_ ? join(parent_->path(), name_) : name_; }

std::vector<Parameter*> Module::parameters() {
  std::vector<Parameter*> out;
  visit([&](Module& m) { out.insert(out.end(), m.parameters_.begin(), m.parameters_.end()); });
  return out;
}

std::vector<Buffer*> Module::buffers() {
  std::vector<Buffer*> out;
  visit([&](Module& m) { out.insert(out.end(), m.buffers_.begin(), m.buffers_.end()); });
  return out;
}

int64_t Module::parameter_count() {
  int64_t total = 0;
  for (const Parameter* p : parameters()) total += p->value.size();
  return total;
}

void Module::train(bool on) {
  visit([on](Module& m) { m.training_ = on; });
}

void Module::initialize(uint64_t seed) {
  const auto start = [seed](auto& member) {
    Random random(seed, stream_of(member.path()));
    member.init(member.value, random);
  };
  for (Parameter* p : parameters()) start(*p);
  for (Buffer* b : buffers())
    if (b->init) start(*b);
}

namespace {

int64_t in_arena(const Parameter& p) {   // floats that a parameter takes there: whole cache lines
  constexpr int64_t line = 16;
  return (p.value.size() + line - 1) / line * line;
}

}  // namespace

void Module::pack() {
  if (arena_.values.defined()) return;
  QD_CHECK(!parent_, "arena", str("expected the root of a model, got its part '", path(), "'"), "make the optimiser for the whole model");
  for (Parameter* p : parameters())
    if (p->value.needs_gradient()) arena_.order.push_back(p);   // the others are frozen
  std::stable_partition(arena_.order.begin(), arena_.order.end(), [](const Parameter* p) { return p->decays(); });
  int64_t total = 0;
  for (const Parameter* p : arena_.order) {
    total += in_arena(*p);
    if (p->decays()) arena_.decayed = total;
  }
  arena_.values = zeros({total});
  int64_t offset = 0;
  for (Parameter* p : arena_.order) {
    const int64_t bytes = p->value.size() * bytes_of(DType::f32);
    Tensor value(Storage::window(arena_.values.storage(), offset * bytes_of(DType::f32), bytes), p->value.shape(), DType::f32);
    value.copy_from(p->value);
    value.set_node(p->value.node());   // stays: a graph that was made before leads here
    p->value = value;
    offset += in_arena(*p);
  }
}

const Arena& Module::arena() {
  pack();
  if (arena_.gradients.defined()) return arena_;
  for (const Parameter* p : arena_.order)
    QD_CHECK(p->value.needs_gradient(), "arena", str("expected parameters as they were packed, '", p->path(), "' was frozen since"), "freeze before pack()");
  arena_.gradients = zeros(arena_.values.shape());
  int64_t offset = 0;
  for (Parameter* p : arena_.order) {
    const int64_t bytes = p->value.size() * bytes_of(DType::f32);
    Tensor gradient(Storage::window(arena_.gradients.storage(), offset * bytes_of(DType::f32), bytes), p->value.shape(), DType::f32);
    Node& node = *p->value.node();
    if (node.touched) gradient.copy_from(node.gradient);
    node.gradient = gradient;
    offset += in_arena(*p);
  }
  return arena_;
}

void Module::clear_gradients() {
  for (Parameter* p : parameters()) p->value.clear_gradient();
}

void Module::settle_gradients() {
  for (Parameter* p : parameters())
    if (p->value.needs_gradient()) p->value.gradient();
}

void Module::save(State& to) const {
  auto* self = const_cast<Module*>(this);   // walks the tree, changes nothing
  for (const Parameter* p : self->parameters()) to.tensors[p->path()] = p->value.detach();
  for (const Buffer* b : self->buffers()) to.tensors[b->path()] = b->value;
}

void Module::load(const State& from) {
  std::map<std::string, Kind> given;
  for (const auto& [name, tensor] : from.tensors) given[name] = {tensor.shape(), tensor.dtype()};
  load(given, [&](const std::string& name) { return from.tensors.at(name); });
}

void Module::load(const std::map<std::string, Kind>& given, const std::function<Tensor(const std::string&)>& read) {
  std::vector<std::pair<std::string, Tensor*>> wanted;
  for (Parameter* p : parameters()) wanted.emplace_back(p->path(), &p->value);
  for (Buffer* b : buffers()) wanted.emplace_back(b->path(), &b->value);
  std::vector<std::string> missing, extra, wrong;
  std::set<std::string> known;
  for (const auto& [path, tensor] : wanted) {
    known.insert(path);
    const auto found = given.find(path);
    if (found == given.end()) {
      missing.push_back(path);
    } else if (const auto& [shape, dtype] = found->second; shape != tensor->shape() || dtype != tensor->dtype()) {
      wrong.push_back(str(path, " (expected ", name_of(tensor->dtype()), " ", tensor->shape().str(), ", got ", name_of(dtype), " ",
                          shape.str(), ")"));
    }
  }
  for (const auto& [path, kind] : given)
    if (!known.contains(path)) extra.push_back(path.substr(0, 100));   // a stranger's name
  QD_CHECK(missing.empty() && extra.empty() && wrong.empty(), "load",
           "expected exactly the tensors of this model" + list("missing", missing) + list("extra", extra) + list("of another shape", wrong),
           "do the model's options match those the file was saved with?");
  for (auto& [path, tensor] : wanted) tensor->copy_from(read(path));
}

namespace {

// Fills with f(random), number by number.
template <class F>
Init each_number(F f) {
  return [f](Tensor& value, Random& random) {
    float* x = value.mutable_data();
    for (int64_t i = 0; i < value.size(); ++i) x[i] = static_cast<float>(f(random));
  };
}

}  // namespace

Init normal(double deviation) {
  return each_number([deviation](Random& random) { return deviation * random.normal(); });
}

Init uniform(double limit) {
  return each_number([limit](Random& random) { return limit * (2 * random.uniform() - 1); });
}

Init xavier(int64_t fan_in, int64_t fan_out, double gain) { return uniform(gain * std::sqrt(6.0 / static_cast<double>(fan_in + fan_out))); }

Init constant(double value) {
  return each_number([value](Random&) { return value; });
}

Init side_by_side(std::vector<std::pair<int64_t, Init>> columns) {
  return [columns = std::move(columns)](Tensor& value, Random& random) {
    float* to = value.mutable_data();
    for (const auto& [width, init] : columns) {
      Tensor part = empty({value.rows(), width});
      init(part, random);
      for (int64_t r = 0; r < value.rows(); ++r) std::copy_n(part.data() + r * width, width, to + r * value.cols());
      to += width;
    }
  };
}

Parameter::Parameter(Module& parent, std::string name, const Shape& shape, Init init)
    : value(zeros(shape)), init(std::move(init)), parent_(parent), name_(std::move(name)) {
  value.require_gradient();
  parent.expect_new(name_);
  parent.parameters_.push_back(this);
}

std::string Parameter::path() const { return join(parent_.path(), name_); }

Buffer::Buffer(Module& parent, std::string name, Tensor initial) : value(std::move(initial)), parent_(parent), name_(std::move(name)) {
  parent.expect_new(name_);
  parent.buffers_.push_back(this);
}

Buffer::Buffer(Module& parent, std::string name, const Shape& shape, Init init) : Buffer(parent, std::move(name), zeros(shape)) {
  this->init = std::move(init);
}

std::string Buffer::path() const { return join(parent_.path(), name_); }

}  // namespace qd

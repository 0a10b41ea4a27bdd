// Items made ahead of time by one thread, while the consumer works on earlier ones.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/parallel.h"

namespace qd {

// Item number i is make(i), whatever was made before it. The thread keeps `depth` items ready and opens no parallel region.
template <class Item>
class Prefetch {
 public:
  Prefetch(std::function<Item(int64_t)> make, size_t depth) : make_(std::move(make)), depth_(depth) {}
  ~Prefetch() { stop(); }
  Prefetch(const Prefetch&) = delete;

  // The item at position(), which moves on by one. Rethrows what make() threw; the next call tries that item again.
  Item next() {
    if (!thread_.joinable()) start();
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return !queue_.empty() || error_; });
    if (queue_.empty()) {
      const std::exception_ptr error = error_;
      lock.unlock();
      stop();
      std::rethrow_exception(error);
    }
    Item item = std::move(queue_.front());
    queue_.pop_front();
    ++position_;
    taken_.notify_one();
    return item;
  }

  int64_t position() const { return position_; }   // of the next item: what was made ahead does not count
  void seek(int64_t position) {
    stop();
    position_ = position;
  }

 private:
  void start() {
    stopping_ = false;
    thread_ = std::thread([this, first = position_] { work(first); });
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      taken_.notify_one();
    }
    if (thread_.joinable()) thread_.join();
    queue_.clear();
    error_ = nullptr;
  }

  void work(int64_t index) {
    serial_thread();
    flush_denormals();
    try {
      for (;; ++index) {
        Item item = make_(index);
        std::unique_lock lock(mutex_);
        taken_.wait(lock, [&] { return queue_.size() < depth_ || stopping_; });
        if (stopping_) return;
        queue_.push_back(std::move(item));
        arrived_.notify_one();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      arrived_.notify_one();
    }
  }

  const std::function<Item(int64_t)> make_;
  const size_t depth_;
  int64_t position_ = 0;   // the consumer's alone

  std::mutex mutex_;       // guards what follows
  std::condition_variable arrived_, taken_;
  std::deque<Item> queue_;
  std::exception_ptr error_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace qd

#include "apps/options.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/kernels/table.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace qd {
namespace fs = std::filesystem;
using nlohmann::ordered_json;
using Texts = std::vector<std::string>;

namespace {

std::string joined(const Texts& names, const char* last, const char* between = ", ") {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) out += (i == 0 ? "" : i + 1 == names.size() ? last : between) + names[i];
  return out;
}

std::string quoted(const std::string& argument) {   // as a shell reads it
  const auto plain = [](unsigned char c) { return std::isalnum(c) || std::strchr("-_=./:,+@", c); };
  if (!argument.empty() && std::all_of(argument.begin(), argument.end(), plain)) return argument;
  std::string out = "'";
  for (const char c : argument) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string described(const Range& r, const char* kind) {
  const bool low = r.low > Range{}.low, high = r.high < Range{}.high;
  std::string out = kind;
  if (low) out += str(r.with_low ? (high && r.with_high ? " from " : " of at least ") : " above ", r.low);
  if (!high) return out;
  const char* joint = !low ? " " : r.with_low && r.with_high ? " to " : " and ";
  return out + str(joint, !r.with_high ? "below " : low && r.with_low ? "" : "at most ", r.high);
}

template <class T>
T number(const std::string& name, const std::string& text, const Range& range, const char* kind) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const auto v = static_cast<double>(value);
  const bool fits = error == std::errc() && stop == end && std::isfinite(v) &&
                    (range.with_low ? v >= range.low : v > range.low) && (range.with_high ? v <= range.high : v < range.high);
  QD_CHECK(fits, name, str("expected ", described(range, kind), ", got '", text, "'"));
  return value;
}

Every every(const std::string& name, const std::string& text) {
  const bool timed = text.ends_with('s');
  try {
    if (timed) return {.seconds = number<double>(name, text.substr(0, text.size() - 1), above(0), "")};
    return {.steps = number<int64_t>(name, text, at_least(0), "")};
  } catch (const Error&) {
    fail(name, str("expected a number of steps such as 500, a time such as 60s, or 0, got '", text, "'"));
  }
}

ordered_json shown(const Every& e) { return e.seconds > 0 ? ordered_json(str(e.seconds, "s")) : ordered_json(e.steps); }

std::string as_text(const std::string& name, const ordered_json& value) {
  QD_CHECK(value.is_primitive() && !value.is_null(), name, "expected a number or a text, got " + value.dump());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// One option: how the command line's texts become its value, and that value as JSON.
struct Slot {
  std::string name;
  std::function<void(const Texts&)> set;
  std::function<ordered_json()> get;
  CLI::Option* parsed = nullptr;
  Texts typed = {};
  bool is_flag = false, is_list = false, hidden = false, kept = true, known = false;
};

}  // namespace

std::string nearest(const std::string& word, const Texts& candidates) {
  const auto distance = [&](const std::string& other) {   // Levenshtein 1965, one row at a time
    std::vector<size_t> row(other.size() + 1);
    for (size_t j = 0; j <= other.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= other.size(); ++j) {
        const size_t replaced = diagonal + (word[i - 1] != other[j - 1]);
        diagonal = row[j];
        row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
      }
    }
    return row.back();
  };
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& other : candidates) {
    if (const size_t d = distance(other); d < least) least = d, best = other;
  }
  return best;
}

struct Command::Impl {
  CLI::App* parser = nullptr;
  std::string full_name, line;   // "lm train"; the command line
  std::function<int()> run;
  std::vector<std::unique_ptr<Slot>> slots = {};
  std::string title = "Options";
  bool hidden = false, help = false, help_all = false;
  Slot* file_slots[2] = {};   // --config and --resume: not frozen, frozen
  Texts free = {};
  std::string first_line = {};   // of a resumed run: the command line that began it, and those that went on with it
  Texts resumed = {};

  Slot& add(const std::string& name, const char* what, std::string help_text, std::function<void(const Texts&)> set,
            std::function<ordered_json()> get, int values) {
    slots.push_back(std::make_unique<Slot>(Slot{.name = name, .set = std::move(set), .get = std::move(get)}));
    Slot& slot = *slots.back();
    slot.is_flag = values == 0;
    slot.is_list = values > 1;
    slot.hidden = hidden;
    const ordered_json initial = slot.get();
    const bool shows = initial.is_primitive() && initial != "" && initial != "\n";
    if (!slot.is_flag && shows && !(initial.is_number() && initial < 0)) {
      help_text += " [" + (initial.is_number_float() ? str(initial.get<double>()) : as_text(name, initial)) + "]";
    }
    const auto collect = [&slot](const Texts& texts) {
      slot.typed = texts;
      return true;
    };
    const std::string description = help_text;   // not const, the library takes it for a variable
    slot.parsed = slot.is_flag ? parser->add_flag(name, description) : parser->add_option(name, collect, description);
    if (!slot.is_flag) slot.parsed->expected(1, values)->option_text(what)->allow_extra_args(slot.is_list);
    slot.parsed->group(title);
    return slot;
  }

  Slot* find(const std::string& name) const {
    const auto found = std::find_if(slots.begin(), slots.end(), [&](const auto& slot) { return slot->name == name; });
    return found == slots.end() ? nullptr : found->get();
  }
  Texts names() const {
    Texts out = {"--help", "--help-all"};
    for (const auto& slot : slots) out.push_back(slot->name);
    return out;
  }

  void reject_extras(const Texts& extras) const {
    if (extras.empty()) return;
    const auto option =
        std::find_if(extras.begin(), extras.end(), [](const std::string& e) { return e.size() > 1 && e[0] == '-'; });
    if (option == extras.end()) {
      fail(full_name, str("expected options, got '", extras.front(), "'"),
           "values follow their option: --name value; quote a value with blanks");
    }
    const std::string name = option->substr(0, option->find('=')), near = nearest(name, names());
    fail(name, str("expected an option of ", full_name, ", got '", name, "'"), near.empty() ? "" : "did you mean " + near + "?");
  }

  // Values in order of precedence: the defaults, the file, the command line.
  void settle() {
    for (auto& slot : slots) {
      if (slot->is_flag && slot->parsed->count() > 0) slot->typed = {slot->parsed->as<bool>() ? "true" : "false"};
    }
    const auto typed = [](const Slot* slot) { return slot && !slot->typed.empty(); };
    const auto& [config, resume] = file_slots;
    QD_CHECK(!typed(config) || !typed(resume), resume->name, str("expected no ", config->name, " beside it"),
             str(resume->name, " reads the options of the run itself"));
    if (typed(resume)) {
      for (const auto& slot : slots) {
        const bool is_free = slot.get() == resume || std::find(free.begin(), free.end(), slot->name) != free.end();
        QD_CHECK(is_free || !typed(slot.get()), slot->name,
                 str("expected no change of it with ", resume->name, ", got ", joined(slot->typed, " ")),
                 str("a run goes on as it began; only ", joined(free, " and "), " may be given"));
      }
    }
    if (typed(config)) read(config->typed.front(), false);
    if (typed(resume)) read(resume->typed.front(), true);
    for (const auto& slot : slots) {
      if (typed(slot.get())) apply(*slot, slot->typed);
    }
  }

  void apply(Slot& slot, const Texts& texts) {
    QD_CHECK(slot.is_list || texts.size() == 1, slot.name, str("expected one value, got ", texts.size()));
    slot.set(texts);
    slot.known = true;
  }

  void read(const std::string& given, bool goes_on) {
    std::error_code ignored;
    const std::string path = goes_on || fs::is_directory(given, ignored) ? (fs::path(given) / "run.json").string() : given;
    QD_CHECK(fs::exists(path, ignored), path, "expected the file of a run's options, there is none",
             goes_on ? "a run that was ended before it wrote one has not begun: start it again with --out" : "a run directory holds run.json");
    try {
      const auto file = ordered_json::parse(read_file(path));
      QD_CHECK(file.is_object() && file.contains("options") && file["options"].is_object(), path,
               "expected an object with 'options'", "a run directory holds such a run.json");
      if (goes_on) {
        first_line = file.value("command", "");
        resumed = file.value("resumed", Texts());
        resumed.push_back(line);
      }
      const std::string app = file.value("app", full_name);
      QD_CHECK(app == full_name, path, str("expected the options of ", full_name, ", got those of ", app));
      for (const auto& [key, value] : file["options"].items()) {
        Slot* slot = find("--" + key);
        const std::string near = nearest("--" + key, names());
        QD_CHECK(slot && slot->kept, path, str("expected an option of ", full_name, ", got '", key, "'"),
                 near.empty() ? "" : "did you mean " + near.substr(2) + "?");
        Texts texts;
        const ordered_json list = value.is_array() ? value : ordered_json::array({value});
        for (const ordered_json& one : list) texts.push_back(as_text(path + ": " + key, one));
        try {
          apply(*slot, texts);
        } catch (const Error& error) {
          fail(path, error.what(), error.hint());
        }
      }
    } catch (const nlohmann::json::exception& error) {
      fail(path, str("expected JSON: ", error.what()));
    }
  }

  void print_help(bool all) {
    for (const auto& slot : slots) {
      if (slot->hidden && !all) slot->parsed->group("");
    }
    const CLI::App* above = parser->get_parent();
    std::string text = parser->help(above ? above->get_name() : "");
    for (size_t at; (at = text.find("\n\n\n")) != std::string::npos;) text.erase(at, 1);
    print(text);
    if (!all && std::any_of(slots.begin(), slots.end(), [](const auto& slot) { return slot->hidden; }))
      print("\n--help-all lists all options.\n");
  }
};

Command::Command(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Command::~Command() = default;

Command& Command::option(const std::string& name, int64_t& value, Help what, Help help, Range range) {
  impl_->add(
      name, what, help, [=, &value](const Texts& t) { value = number<int64_t>(name, t.front(), range, "a whole number"); },
      [&value] { return ordered_json(value); }, 1);
  return *this;
}
Command& Command::option(const std::string& name, double& value, Help what, Help help, Range range) {
  impl_->add(
      name, what, help, [=, &value](const Texts& t) { value = number<double>(name, t.front(), range, "a number"); },
      [&value] { return ordered_json(value); }, 1);
  return *this;
}
Command& Command::option(const std::string& name, std::string& value, Help what, Help help) {
  impl_->add(
      name, what, help, [&value](const Texts& t) { value = t.front(); }, [&value] { return ordered_json(value); }, 1);
  return *this;
}
Command& Command::option(const std::string& name, std::vector<std::string>& values, Help what, Help help) {
  const auto get = [&values] {
    auto list = ordered_json::array();
    std::error_code ignored;
    for (const std::string& v : values) list.push_back(fs::exists(v, ignored) ? fs::absolute(v).lexically_normal().string() : v);
    return list;
  };
  impl_->add(
      name, what, help, [&values](const Texts& t) { values = t; }, get, CLI::detail::expected_max_vector_size);
  return *this;
}
Command& Command::option(const std::string& name, Every& value, Help help) {
  impl_->add(
      name, "N|Ss", help, [=, &value](const Texts& t) { value = every(name, t.front()); }, [&value] { return shown(value); }, 1);
  return *this;
}
Command& Command::choice(const std::string& name, std::string& value, std::vector<std::string> names, Help help) {
  const auto set = [=, &value](const Texts& t) {
    const std::string near = nearest(t.front(), names);
    QD_CHECK(std::find(names.begin(), names.end(), t.front()) != names.end(), name,
             str("expected ", joined(names, " or "), ", got '", t.front(), "'"),
             near.empty() ? "" : "did you mean " + near + "?");
    value = t.front();
  };
  impl_->add(
      name, joined(names, "|", "|").c_str(), help, set, [&value] { return ordered_json(value); }, 1);
  return *this;
}
Command& Command::flag(const std::string& name, bool& value, Help help) {
  impl_->add(
      name, "", help, [&value](const Texts& t) { value = t.front() == "true"; }, [&value] { return ordered_json(value); }, 0);
  return *this;
}

Command& Command::or_alone(const std::string& value) {
  impl_->slots.back()->parsed->expected(0, 1)->default_str(value);
  return *this;
}

Command& Command::group(const std::string& title, bool hidden) {
  impl_->title = title;
  impl_->hidden = hidden;
  return *this;
}
Command& Command::reads_options(bool frozen, Texts free) {
  impl_->file_slots[frozen] = impl_->slots.back().get();
  if (frozen) impl_->free = std::move(free);
  return not_kept();
}
Command& Command::not_kept() {
  impl_->slots.back()->kept = false;
  return *this;
}

bool Command::given(const std::string& name) const {
  const Slot* slot = impl_->find(name);
  return slot && !slot->typed.empty();
}
bool Command::known(const std::string& name) const {
  const Slot* slot = impl_->find(name);
  return slot && slot->known;
}
std::string Command::name() const { return impl_->full_name; }

std::string Command::run_file() const {
  ordered_json file = {{"app", impl_->full_name}, {"version", program_version}};
  file["command"] = impl_->resumed.empty() ? impl_->line : impl_->first_line;
  if (!impl_->resumed.empty()) file["resumed"] = impl_->resumed;
  file["instruction_set"] = kernels().name;
  file["precision"] = multiplies_bf16() ? "bf16" : "f32";   // what products are computed in, whatever --precision asks for
  file["threads"] = threads();
  file["started"] = utc_time();
  file["machine"] = {{"processor", processor_name()}, {"processors", processors()}, {"memory_gib", memory_bytes() / (1 << 30)},
                     {"system", system_name()}, {"compiler", compiler_name()}};
  for (const auto& slot : impl_->slots) {
    if (slot->kept) file["options"][slot->name.substr(2)] = slot->get();
  }
  return file.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

struct App::Impl {
  explicit Impl(const std::string& name, const std::string& about) : name(name), parser(about, "bin/" + name) {
    parser.allow_extras()->set_help_flag("");
    parser.add_flag("-h,--help", help, "this text");
  }

  std::string name, explains = "bin/" + name + " --help explains the options";   // the hint where an error has none
  CLI::App parser;
  bool help = false;
  std::string trace;   // the file of --trace, an option of every command
  std::vector<std::unique_ptr<Command>> commands = {};

  // The command that the command line chose, with all its values in place; null when it asked for help.
  Command::Impl* parse(int argc, char** argv) {
    for (const auto& command : commands) {
      command->group("Measuring", true).option("--trace", trace, "FILE", "write what ran when, for ui.perfetto.dev").not_kept();
      command->impl_->free.push_back("--trace");   // of a resumed run
    }
    Command::Impl* chosen = nullptr;
    const auto choose = [&] {
      for (const auto& command : commands) {
        Command::Impl& c = *command->impl_;
        if (c.parser == &parser || c.parser->parsed()) chosen = &c;
      }
      if (chosen) explains = "bin/" + chosen->full_name + " --help explains the options";
    };
    try {
      parser.parse(argc, argv);
    } catch (const CLI::ArgumentMismatch& error) {   // "--steps: 1 required", "--steps: At most 1 required but received 2"
      choose();
      const std::string what = error.what(), option = what.substr(0, what.find(':'));
      const bool none = what.find("received") == std::string::npos;
      fail(option, none ? "expected a value, got none" : "expected to be given once, got it again");
    } catch (const CLI::ParseError& error) {
      fail(name, error.what());
    }
    choose();
    if (!chosen) {
      if (const Texts extras = parser.remaining(); !help && !extras.empty()) unknown_command(extras.front());
      print(parser.help());
      return nullptr;
    }
    if (chosen->help || chosen->help_all || help) {
      chosen->print_help(chosen->help_all);
      return nullptr;
    }
    if (chosen->parser != &parser) chosen->reject_extras(parser.remaining());
    chosen->reject_extras(chosen->parser->remaining());
    for (int i = 0; i < argc; ++i) chosen->line += (i ? " " : "") + quoted(argv[i]);
    chosen->settle();
    return chosen;
  }

  [[noreturn]] void unknown_command(const std::string& given) const {
    Texts names;
    for (const auto& command : commands) names.push_back(command->impl_->parser->get_name());
    const std::string near = nearest(given, names);
    fail(name, str("expected ", joined(names, " or "), ", got '", given, "'"), near.empty() ? "" : "did you mean " + near + "?");
  }
};

App::App(const std::string& name, const std::string& about) : impl_(std::make_unique<Impl>(name, about)) {}
App::~App() = default;

Command& App::command(const std::string& name, const std::string& about, std::function<int()> run) {
  CLI::App* parser = name.empty() ? &impl_->parser : impl_->parser.add_subcommand(name, about);
  auto command = std::make_unique<Command::Impl>();
  command->parser = parser;
  command->full_name = impl_->name + (name.empty() ? "" : " " + name);
  command->run = std::move(run);
  parser->allow_extras()->get_formatter()->column_width(28);
  if (!name.empty()) {
    parser->set_help_flag("");
    parser->add_flag("-h,--help", command->help, "this text")->group("");
  }
  parser->add_flag("--help-all", command->help_all, "all options")->group("");
  return *impl_->commands.emplace_back(std::make_unique<Command>(std::move(command)));
}

namespace {

void complain(const std::string& message, const std::string& hint) {
  log(message);
  log("HINT: " + hint);
}

// A closed standard stream gets a descriptor on which reading and writing fail, so that no file of ours takes its place.
void occupy_standard_streams() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) < 0) [[maybe_unused]]
      const int same = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY);
  }
}

// run() under the profiler where --trace or QD_PROFILE asks for it: what was measured is told however the run ends.
int measured(const std::function<int()>& run, const std::string& trace) {
  const char* value = std::getenv("QD_PROFILE");
  const bool table = value && *value && *value != '0';
  if (!table && trace.empty()) return run();
  start_profile(trace);
  const auto finish = [&] {
    std::string text = finish_profile();
    if (table) log(text.substr(0, text.size() - 1));
    if (!trace.empty()) log("the trace is in " + trace);
  };
  int status;
  try {
    status = run();
  } catch (...) {
    try {
      finish();
    } catch (const Error& error) {
      warn(error.what());   // the run's own error comes first
    }
    throw;
  }
  finish();
  return status;
}

}  // namespace

int App::run(int argc, char** argv) {
  occupy_standard_streams();
  try {
    int status = 0;
    Command::Impl* command = nullptr;
    if (argc <= 1 && impl_->commands.front()->impl_->parser != &impl_->parser) {
      print(impl_->parser.help());
    } else {
      command = impl_->parse(argc, argv);
    }
    if (command) status = measured(command->run, impl_->trace);
    print("");
    return status;
  } catch (const Error& error) {
    complain(error.what(), error.hint().empty() ? impl_->explains : error.hint());
  } catch (const std::bad_alloc&) {
    complain(str("[", impl_->name, "] expected more memory than there is"), "use smaller sizes: --batch, --context, --width");
  } catch (const std::exception& error) {
    complain(str("[", impl_->name, "] ", error.what()), impl_->explains);
  }
  return 1;
}

void print(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  QD_CHECK(written && std::ferror(stdout) == 0, "standard output", str("expected to write to it: ", std::strerror(errno)));
}

void print_json(const Result& result) {
  ordered_json object = ordered_json::object();
  for (const auto& [name, value] : result) std::visit([&, key = name](const auto& v) { object[key] = v; }, value);
  print(object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace qd

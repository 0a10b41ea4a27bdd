// Auto-encoders with a discrete code: post 6760 of kexue.fm/archives. Claims Q2 to Q7, on drawn faces of 32 x 32 and small networks.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "apps/lab/lab.h"
#include "apps/lab/timing.h"
#include "core/autograd.h"
#include "core/log.h"
#include "data/cartoon_faces.h"
#include "data/grids.h"
#include "data/picture_scores.h"
#include "models/generate.h"
#include "models/prior.h"
#include "models/vqvae.h"
#include "nn/html.h"
#include "nn/optimizer.h"

namespace qd {
namespace {

constexpr int64_t side = 32, batch = 32;

const PictureSet& faces() {
  static const CartoonFaces set(4000, side, 7);
  return set;
}
const PictureSplit& split() {
  static const PictureSplit s = split_pictures(faces().size(), 400, 1);
  return s;
}
int64_t steps(const LabOptions& o) { return o.quick ? 150 : 1500; }
int64_t seeds(const LabOptions& o) { return o.quick ? 1 : o.seeds; }

VQVAEConfig small(const QuantizerConfig& quantizer) { return {.width = 48, .residual_width = 16, .residual_blocks = 1, .quantizer = quantizer}; }

// How a model is trained: what the decoder gets, and what the loss is beside the picture's error.
enum class Way { straight_through, no_gradient, both, no_quantiser };

struct Outcome {
  double mse = 0, psnr = 0;   // of held-out pictures, decoded from codes (from vectors: no_quantiser)
  double used = 0;            // share of the codes
  double perplexity = 0;
  double drift = 0;           // |z - q|^2 / |z|^2
};

Tensor loss_of(VQVAE& m, const Tensor& x, Way way) {
  const Tensor z = (*m.encoder)(x);
  if (way == Way::no_quantiser) return mse((*m.decoder)(z), x);
  const Quantizer::Result r = (*m.codebook)(z);
  const Tensor picture = mse((*m.decoder)(way == Way::straight_through ? r.q : r.q.detach()), x);
  const Tensor total = r.loss.defined() ? picture + r.loss : picture;
  return way == Way::both ? total + mse((*m.decoder)(z), x) : total;
}

std::unique_ptr<VQVAE> trained(const VQVAEConfig& config, Way way, int64_t count, uint64_t seed) {
  auto m = std::make_unique<VQVAE>(config);
  m->initialize(seed);
  random_state() = {seed, 0};
  AdamW optimizer(*m, {.decay = 0});
  PictureLoader loader(faces(), split().training, {.batch = batch, .seed = seed});
  for (int64_t step = 0; step < count; ++step) {
    loss_of(*m, loader.next(), way).backward();
    optimizer.step(step < count / 2 ? 1e-3 : 3e-4);
  }
  m->evaluate();
  return m;
}

Outcome measured(const VQVAE& m, Way way) {
  const NoGrad off;
  Outcome o;
  std::vector<int64_t> counts(static_cast<size_t>(m.c.quantizer.codes));
  double distance = 0, length = 0;
  const auto& pictures = split().held_out;
  for (size_t begin = 0; begin < pictures.size(); begin += 100) {
    const Tensor x = picture_batch(faces(), std::span(pictures).subspan(begin, 100)), z = (*m.encoder)(x);
    const Tensor ids = m.codebook->encode(z), q = m.codebook->decode(ids), y = (*m.decoder)(way == Way::no_quantiser ? z : q);
    const auto some = code_counts(ids, m.c.quantizer.codes);
    for (size_t k = 0; k < some.size(); ++k) counts[k] += some[k];
    for (int64_t i = 0; i < z.size(); ++i) {
      distance += std::pow(static_cast<double>(z.data()[i]) - q.data()[i], 2);
      length += std::pow(static_cast<double>(z.data()[i]), 2);
    }
    const int64_t values = x.size() / x.dim(0);
    for (int64_t i = 0; i < x.dim(0); ++i) {
      const auto of = [&](const Tensor& t) { return std::span(t.data() + i * values, static_cast<size_t>(values)); };
      const double error = picture_mse(of(y), of(x));
      o.mse += error / static_cast<double>(pictures.size()), o.psnr += psnr(error) / static_cast<double>(pictures.size());
    }
  }
  o.used = static_cast<double>(std::count_if(counts.begin(), counts.end(), [](int64_t n) { return n > 0; })) / static_cast<double>(counts.size());
  o.perplexity = perplexity(counts), o.drift = distance / length;
  return o;
}

// Mean and standard deviation over seeds.
struct Spread {
  double mean = 0, deviation = 0;
};
Spread spread(const std::vector<Outcome>& all, double Outcome::* what) {
  Spread s;
  for (const Outcome& o : all) s.mean += o.*what / static_cast<double>(all.size());
  for (const Outcome& o : all) s.deviation += std::pow(o.*what - s.mean, 2) / std::max<double>(1, static_cast<double>(all.size()) - 1);
  s.deviation = std::sqrt(s.deviation);
  return s;
}
std::string shown(const Spread& s) { return s.deviation > 0 ? str(qd::shown(s.mean), " +- ", qd::shown(s.deviation)) : qd::shown(s.mean); }

std::vector<Outcome> over_seeds(const LabOptions& o, const QuantizerConfig& quantizer, Way way = Way::straight_through) {
  std::vector<Outcome> all;
  for (int64_t seed = 1; seed <= seeds(o); ++seed) {
    log(str("training: ", name_of(quantizer.kind), ", ", quantizer.codes, " codes, seed ", seed));
    all.push_back(measured(*trained(small(quantizer), way, steps(o), static_cast<uint64_t>(seed)), way));
  }
  return all;
}

// The codebook most experiments share.
QuantizerConfig usual(int64_t codes = 64) { return {.kind = QuantizerKind::ema, .codes = codes, .width = 16}; }

Verdict straight_through_needed(const LabOptions& o) {
  Table table{.columns = {"way", "MSE from codes", "codes in use", "|z - q|^2 / |z|^2"}};
  std::vector<Spread> errors;
  for (const auto& [name, way] : {std::pair{"straight through", Way::straight_through}, {"no gradient through the codes", Way::no_gradient},
                                  {"both decoders, no gradient through the codes", Way::both}}) {
    const auto all = over_seeds(o, usual(), way);
    errors.push_back(spread(all, &Outcome::mse));
    table.rows.push_back({name, shown(errors.back()), shown(spread(all, &Outcome::used)), shown(spread(all, &Outcome::drift))});
  }
  return {.kind = passed_if(errors[0].mean <= 0.5 * errors[1].mean),
          .figures = {{"straight through / no gradient", qd::shown(errors[0].mean / errors[1].mean)},
                      {"straight through / both decoders", qd::shown(errors[0].mean / errors[2].mean)}},
          .tables = {table}};
}

Verdict auxiliary_terms(const LabOptions& o) {
  Table table{.columns = {"beta", "gamma", "|z - q|^2 / |z|^2", "MSE", "codes in use"}};
  std::map<std::pair<double, double>, std::vector<Outcome>> outcomes;
  for (const auto& [beta, gamma] : {std::pair{1.0, 0.25}, {1.0, 0.0}, {0.0, 0.25}, {0.25, 1.0}}) {
    const auto& all = outcomes[{beta, gamma}] = over_seeds(o, {.kind = QuantizerKind::vq, .codes = 64, .width = 16, .beta = static_cast<float>(beta),
                                                               .gamma = static_cast<float>(gamma), .kmeans = beta > 0 ? 10 : 0});   // beta = 0: random codes, for ever
    table.rows.push_back({qd::shown(beta), qd::shown(gamma), shown(spread(all, &Outcome::drift)), shown(spread(all, &Outcome::mse)), shown(spread(all, &Outcome::used))});
  }
  const auto &with = outcomes[{1, 0.25}], &without = outcomes[{1, 0}];
  bool every_seed = true;
  for (size_t i = 0; i < with.size(); ++i) every_seed = every_seed && without[i].drift > with[i].drift;
  const auto ratio = [&](double Outcome::* what) { return qd::shown(spread(without, what).mean / spread(with, what).mean); };
  return {.kind = passed_if(every_seed),
          .figures = {{"drift without / with the encoder's term", ratio(&Outcome::drift)}, {"MSE without / with it", ratio(&Outcome::mse)}},
          .tables = {table}};
}

Verdict collapse(const LabOptions& o) {
  Table table{.columns = {"quantiser", "codes", "in use", "perplexity", "PSNR, dB"}};
  std::map<std::pair<std::string, int64_t>, Spread> used, quality;
  const std::vector<int64_t> sizes = o.quick ? std::vector<int64_t>{64, 1024} : std::vector<int64_t>{16, 64, 256, 1024, 4096};
  for (const int64_t codes : sizes)
    for (const std::string name : {"vq", "vq, k-means", "ema", "ema, restart", "simvq", "fsq"}) {
      QuantizerConfig q{.kind = quantizer_named(name.substr(0, name.find(','))), .codes = codes, .width = 16, .restart = name == "ema, restart"};
      q.kmeans = name == "vq, k-means" ? 10 : 0;
      const auto all = over_seeds(o, q);
      used[{name, codes}] = spread(all, &Outcome::used);
      quality[{name, codes}] = spread(all, &Outcome::psnr);
      table.rows.push_back({name, str(codes), shown(used[{name, codes}]), shown(spread(all, &Outcome::perplexity)), shown(quality[{name, codes}])});
    }
  const double plain = used[{"vq", 1024}].mean, better = std::max(used[{"ema, restart", 1024}].mean, used[{"simvq", 1024}].mean);
  std::string crossing = "at none";
  for (auto codes = sizes.rbegin(); codes != sizes.rend() && quality[{"fsq", *codes}].mean > quality[{"ema, restart", *codes}].mean; ++codes)
    crossing = str("from ", *codes, " codes on");
  return {.kind = passed_if(plain < 0.6 && better > 0.9),
          .figures = {{"1,024 codes, plain: in use", qd::shown(plain)}, {"with restarts", qd::shown(used[{"ema, restart", 1024}].mean)}, {"SimVQ", qd::shown(used[{"simvq", 1024}].mean)},
                      {"FSQ", qd::shown(used[{"fsq", 1024}].mean)}, {"FSQ better than restarts", crossing}},
          .tables = {table}};
}

Verdict compression(const LabOptions& o) {
  Table table{.columns = {"codes", "bits per pixel", "PSNR, dB", "JPEG of this PSNR, bits per pixel without its head"}};
  std::vector<Picture> originals;
  for (const int64_t i : split().held_out) originals.push_back(faces().picture(i));
  const auto jpeg = [&](double wanted) {
    const double bytes = jpeg_size(originals, wanted);
    return bytes > 0 ? 8 * (bytes - jpeg_head) / (side * side) : 0;
  };
  bool rises = true;
  double before = 0;
  for (const int64_t codes : {16, 64, 256, 1024}) {
    const Spread psnr = spread(over_seeds(o, usual(codes)), &Outcome::psnr);
    rises = rises && psnr.mean > before, before = psnr.mean;
    table.rows.push_back({str(codes), qd::shown(std::log2(static_cast<double>(codes)) / 16), shown(psnr), qd::shown(jpeg(psnr.mean))});
  }
  const Spread plain = spread(over_seeds(o, usual(), Way::no_quantiser), &Outcome::psnr);
  table.rows.push_back({"no quantiser", "", shown(plain), qd::shown(jpeg(plain.mean))});
  return {.kind = passed_if(rises && plain.mean > before),
          .figures = {{"PSNR with 1,024 codes", str(qd::shown(before), " dB")}, {"without a quantiser", str(qd::shown(plain.mean), " dB")}},
          .tables = {table}};
}

// Codes of a set of pictures by a trained model: (N, 8, 8).
Tensor codes_of(const VQVAE& m, const std::vector<int64_t>& pictures) {
  const NoGrad off;
  std::vector<int32_t> all;
  for (size_t begin = 0; begin < pictures.size(); begin += 100) {
    const Tensor ids = m.encode(picture_batch(faces(), std::span(pictures).subspan(begin, std::min<size_t>(100, pictures.size() - begin))));
    const auto values = ids.values<int32_t>();
    all.insert(all.end(), values.begin(), values.end());
  }
  return tensor(all, {std::ssize(pictures), side / 4, side / 4});
}

std::unique_ptr<Prior> trained_prior(const std::string& kind, const Tensor& training, int64_t codes, int64_t count, uint64_t seed) {
  const bool attention = kind == "attention";
  // 0.34 million parameters each, taps that a mask leaves out not counted.
  auto prior = std::make_unique<Prior>(PriorConfig{.kind = kind, .codes = codes, .rows = side / 4, .columns = side / 4, .width = attention ? 96 : 38,
                                                   .layers = attention ? 3 : 6, .heads = 4, .dropout = 0});
  prior->module().initialize(seed);
  random_state() = {seed, 0};
  AdamW optimizer(prior->module(), {.decay = 0.01});
  GridLoader grids(training, batch, seed);
  for (int64_t step = 0; step < count; ++step) {
    prior->loss(grids.next()).backward();
    optimizer.step(step < count / 2 ? 2e-3 : 6e-4);
  }
  prior->module().evaluate();
  return prior;
}

// Mean over these pictures of the distance, as MSE, to the nearest of those trained on.
double nearest_distance(const Tensor& x) {
  const Tensor known = picture_batch(faces(), std::span(split().training).first(1000));
  const int64_t values = known.size() / known.dim(0);
  const auto of = [&](const Tensor& t, int64_t i) { return std::span(t.data() + i * values, static_cast<size_t>(values)); };
  double sum = 0;
  for (int64_t i = 0; i < x.dim(0); ++i) {
    double best = INFINITY;
    for (int64_t k = 0; k < known.dim(0); ++k) best = std::min(best, picture_mse(of(x, i), of(known, k)));
    sum += best / static_cast<double>(x.dim(0));
  }
  return sum;
}

// Both priors on the codes of one model for each seed: for two verdicts.
struct PriorOutcome {
  double histogram = 0, cnn = 0, attention = 0;                         // bits per code, held out
  double drawn = 0, uniform = 0, held_out = 0;                          // distances to the nearest picture that was trained on
};
const std::vector<PriorOutcome>& prior_outcomes(const LabOptions& o) {
  static std::vector<PriorOutcome> all;
  for (int64_t s = std::ssize(all) + 1; s <= seeds(o); ++s) {
    const auto seed = static_cast<uint64_t>(s);
    const auto m = trained(small(usual()), Way::straight_through, steps(o), seed);
    const Tensor training = codes_of(*m, split().training), held_out = codes_of(*m, split().held_out);
    PriorOutcome r{.histogram = histogram_bits(training, held_out, 64)};
    log(str("priors, seed ", s));
    const auto cnn = trained_prior("pixelcnn", training, 64, steps(o), seed), attention = trained_prior("attention", training, 64, steps(o), seed);
    const NoGrad off;
    r.cnn = cnn->loss(held_out).item() / std::log(2.0), r.attention = attention->loss(held_out).item() / std::log(2.0);
    Random random(seed, 1);
    Tensor any = empty({64, side / 4, side / 4}, DType::i32);
    for (int64_t i = 0; i < any.size(); ++i) any.mutable_data<int32_t>()[i] = static_cast<int32_t>(random.uniform() * 64);
    r.drawn = nearest_distance(m->decode(attention->sample(64, {.seed = seed}))), r.uniform = nearest_distance(m->decode(any));
    r.held_out = nearest_distance(m->decode(held_out.row_range(0, 64)));
    all.push_back(r);
  }
  return all;
}

Verdict priors(const LabOptions& o) {
  Table table{.columns = {"seed", "uniform", "histogram", "PixelCNN", "attention"}};
  Table distances{.title = "Distance to the nearest picture trained on, MSE", .columns = {"seed", "drawn by attention", "codes at random", "held out, through the codes"}};
  double gain = 0;
  for (const PriorOutcome& r : prior_outcomes(o)) {
    const std::string seed = str(table.rows.size() + 1);
    table.rows.push_back({seed, "6.000", qd::shown(r.histogram), qd::shown(r.cnn), qd::shown(r.attention)});
    distances.rows.push_back({seed, qd::shown(r.drawn), qd::shown(r.uniform), qd::shown(r.held_out)});
    gain += (1 - r.attention / r.histogram) / static_cast<double>(seeds(o));
  }
  return {.kind = passed_if(gain > 0.15),
          .figures = {{"attention below the histogram", str(qd::shown(100 * gain), " %")}},
          .note = "Bits per code of held-out pictures; both networks have 0.34 million parameters and the same steps.",
          .tables = {table, distances}};
}

Verdict attention_or_convolutions(const LabOptions& o) {
  int better = 0;
  double bits = 0;
  for (const PriorOutcome& r : prior_outcomes(o)) better += r.attention < r.cnn, bits += (r.cnn - r.attention) / static_cast<double>(seeds(o));
  return {.kind = passed_if(3 * better >= 2 * seeds(o)),
          .figures = {{"attention better", str(better, " of ", seeds(o), " seeds")}, {"PixelCNN's bits per code above attention's", qd::shown(bits)}},
          .note = "The figures of Q6."};
}

Verdict sampling_speed(const LabOptions& o) {
  const auto model = [](int64_t vocab, int64_t context) {
    auto m = std::make_unique<GPT>(GPTConfig{.vocab = vocab, .context = context, .width = 96, .layers = 3, .heads = 4});
    m->initialize(1);
    m->evaluate();
    return m;
  };
  const auto pixels = model(256, side * side * 3), codes = model(64, side * side / 16);
  const auto t = best_times(o.quick ? 1 : 3, {[&] { generate(*pixels, {0}, {.tokens = side * side * 3}); }, [&] { generate(*codes, {0}, {.tokens = side * side / 16}); }});
  return {.kind = passed_if(t[0] / t[1] > 20),
          .figures = {{"a picture pixel by pixel", shown_time(t[0])}, {"code by code", qd::shown(1000 * t[1]) + " ms"}, {"ratio", qd::shown(t[0] / t[1])}}};
}

}  // namespace

void add_vqvae(App& app) {
  static LabOptions o;
  static const Laboratory lab{
      "vqvae",
      "Post 6760: pictures as grids of codes",
      {{"Q2", "The straight-through gradient is needed", "MSE at most half of that without a gradient through the codes", straight_through_needed},
       {"Q3", "Without the encoder's term vectors drift away from their codes", "|z - q|^2 / |z|^2 is larger with gamma = 0", auxiliary_terms},
       {"Q4", "Large codebooks collapse, and restarts or SimVQ prevent it", "of 1,024 codes plain VQ uses below 60 %, one of the two above 90 %", collapse},
       {"Q5", "More codes, better pictures", "PSNR rises with the number of codes, and is highest without a quantiser", compression},
       {"Q6", "A transformer models the codes", "15 % fewer bits than the histogram", priors},
       {"Q6b", "Attention is better than PixelCNN", "fewer bits with as many parameters, for two seeds of three", attention_or_convolutions},
       {"Q7", "Codes are drawn far faster than pixels", "the same transformer draws 64 codes 20 times as fast as 3,072 pixels", sampling_speed}}};
  lab.add_to(app, o);
}

}  // namespace qd

// The files of a run. A run directory holds at most one run:
//   model.safetensors   the weights of the lowest validation loss (the last weights where nothing is held out); metadata: step, evaluation.*
//   last.safetensors    everything that --resume needs: "model.*" and, under its own name, each part (optimiser, loader, trainer)
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/state.h"
#include "nn/metrics.h"
#include "nn/module.h"

namespace qd {

std::string next_run_directory(const std::string& parent, const std::string& name);   // makes and names the next free parent/name-001
void claim_run_directory(const std::string& path);            // makes it where needed; throws Error when it holds a run already

bool has_checkpoint(const std::string& path);                 // last.safetensors is there
// Frees the directory of a run that was killed before its first checkpoint; throws Error when it holds a model.
void begin_again(const std::string& path);
void remove_leftovers(const std::string& path);               // temporary files that a kill left in it

// What a checkpoint saves beside the weights, by name.
using Parts = std::vector<std::pair<std::string, Stateful*>>;

// Written whole or not at all; a full disk throws Error and leaves the old file as it was.
void save_checkpoint(const std::string& path, const Module& module, const Parts& parts);
void load_checkpoint(const std::string& path, Module& module, const Parts& parts);   // strict; throws Error with every name that does not fit
void save_model(const std::string& path, const Module& module, int64_t step, const Values& evaluation);

}  // namespace qd

// Pictures as grids of whole numbers: train an auto-encoder on photographs, reconstruct, encode, decode, and make new ones.
//   bin/vqvae train --data img_align_celeba --crop 128 --size 64
//   bin/vqvae reconstruct --model runs/vqvae-001 --data pictures --out beside.png
//   bin/vqvae prior --model runs/vqvae-001 --data img_align_celeba && bin/vqvae sample --model runs/vqvae-001 --out new.png
#include "apps/vqvae/commands.h"

int main(int argc, char** argv) {
  qd::App app("vqvae", "Pictures as grids of whole numbers: train an auto-encoder on photographs, reconstruct, encode, decode, and make new ones.");
  qd::add_train(app);
  qd::add_reconstruct(app);
  qd::add_encode(app);
  qd::add_decode(app);
  qd::add_prior(app);
  qd::add_sample(app);
  qd::add_interpolate(app);
  return app.run(argc, argv);
}

// models/rows.h -- devices that share layers, matrix by matrix: where each is cut, by the weight tables and the sizes of the model.
//
// Queries, keys and values are cut by whole key-value heads, and the output's inputs in the same places; gate and up by rows, down by columns;
// experts likewise, each of them; the head by rows. What stands between the matrices each device computes for itself. A matrix whose
// inputs would be cut within a block of its type is cut by its outputs instead. Whole stay latent attention, routers, embeddings,
// and what a rule has placed. Megatron-LM, Shoeybi et al., arXiv 1909.08053.
#ifndef MODELS_ROWS_H
#define MODELS_ROWS_H

#include "models/model.h"

// Works out m->rows. shares[place]: how much the place gets, 0: nothing.
void rows_choose(struct tlm_model *m, const double shares[PLACES]);
// Cuts the matrix of layer l, which is a device's, as its row of the table says; spec NULL: the head, an embedding. Fused matrices become
// several in m->weights.
void rows_cut(struct tlm_model *m, const struct weight_spec *spec, int64_t l, struct tensor *t);
// Takes back the choice, and what became of fused matrices.
void rows_forget(struct tlm_model *m);
bool rows_chosen(const struct tlm_model *m);
// Do devices share the heads of attention, and so the cache?
bool rows_share_heads(const struct tlm_model *m);

#endif

// cuDNN's fused attention, which go-xla calls on CUDA.
#pragma once

#include "program.h"

void checkAttention(const Op& op);  // target, configuration, layouts, types
Results attend(const Op& op, const Arguments& in, const std::shared_ptr<Ledger>& ledger);

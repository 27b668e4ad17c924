#ifndef EIDETIC_MODEL_COMPUTE_THREADS_H_
#define EIDETIC_MODEL_COMPUTE_THREADS_H_

namespace eidetic::model {

// How many threads are meant by `threads`; 0: the first number of OMP_NUM_THREADS in the
// environment, and where there is none of 1 to 1,024, one per core. Errors: kInvalidArgument.
int ComputeThreads(int threads);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_COMPUTE_THREADS_H_

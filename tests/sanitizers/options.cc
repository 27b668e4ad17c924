// The sanitizers' options, linked into every program of a sanitized build. The runtime calls these
// before main(); the environment (ASAN_OPTIONS and so on) still overrides them.
//
// Leaks are looked for at the end of every program, with nothing suppressed. An allocation that is
// too large must fail as it does without sanitizers (std::bad_alloc), since damaged files ask for
// it. Visible, so that the runtime, a library of its own, finds them.
extern "C" {
#pragma GCC visibility push(default)

const char* __asan_default_options() {
  return "detect_leaks=1:detect_stack_use_after_return=1:allocator_may_return_null=1";
}

const char* __ubsan_default_options() {
  return "print_stacktrace=1:halt_on_error=1";
}

// ThreadSanitizer knows of an access, and of what orders it, where code was compiled with it and
// where functions of the C library are called. RocksDB's library was not: its threads are ordered
// by atomics that nobody sees, so the memory they hand to each other looks like races. Not looked
// at is
//   - what is called from inside that library and the one it unpacks tables with: memcpy, new,
//   delete
//   - what was compiled into our programs out of its headers, when it is RocksDB that calls it, or
//     the end of the process, for its static objects.
// All of ours is looked at, also where it calls RocksDB. FAISS and OpenMP are not instrumented
// either: tests let them have one thread. SQLite locks by functions of the C library.
const char* __tsan_default_suppressions() {
  return "called_from_lib:librocksdb.so\n"
         "called_from_lib:libzstd.so\n"
         "race:^rocksdb::\n"
         "race:^__run_exit_handlers$\n";
}

const char* __tsan_default_options() {
  return "second_deadlock_stack=1:history_size=4";
}

#pragma GCC visibility pop
}  // extern "C"

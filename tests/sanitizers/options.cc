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

#pragma GCC visibility pop
}  // extern "C"

// The sanitizers' options, linked into every program of a sanitized build. The runtime calls these
// before main(); the environment (ASAN_OPTIONS and so on) still overrides them.
//
// Leaks are looked for at the end of every program. What is suppressed is memory that LibTorch's
// static initialisers and its thread pools keep until the process ends.
extern "C" {

const char* __asan_default_options() {
  return "detect_stack_use_after_return=1:strict_init_order=0:check_initialization_order=0:"
         "allocator_may_return_null=1:detect_leaks=1";
}

const char* __ubsan_default_options() {
  return "print_stacktrace=1:halt_on_error=1";
}

const char* __lsan_default_suppressions() {
  return "leak:libtorch_cpu.so\n"
         "leak:libc10.so\n"
         "leak:libgomp\n";
}

}  // extern "C"

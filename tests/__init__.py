
import signal

# A shell that starts us in the background has us ignore Ctrl-C, and our children would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

package service

import (
	"fmt"
	"net"
	"os"
)

// notifySystemd tells systemd that the process serves, and that it is the main one now: after a handover systemd would
// otherwise take the end of the old process for the end of the service. It does nothing where systemd is not the parent
// (sd_notify(3)).
func notifySystemd() error {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "READY=1\nMAINPID=%d\n", os.Getpid()); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// NotifyReady is for servers with a life of their own: it tells systemd what Run does for others.
func NotifyReady() error { return notifySystemd() }

package balancer

import (
	"errors"
	"fmt"
)

// ErrNoCommand: a plugin was given a command although it has none.
var ErrNoCommand = errors.New("the plugin has no commands")

func unknownKey(key string) error { return fmt.Errorf("unknown parameter '%s'", key) }

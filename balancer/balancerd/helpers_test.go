package balancerd_test

import "wheelhouse/balancer"

type request = balancer.Request

func balancerPriority(p int8) balancer.Priority { return balancer.Priority(p) }

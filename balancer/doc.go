// Package balancer is the vocabulary of the balancer: what a service is set to, what a request under way is, and what a plugin
// can do to it.
//
// A service listens, or is reached through a selector, and has a role: reverse_proxy, web_server, selector, management,
// upload_tracker, or one that a plugin brings. Its configuration is written in Perlbal's language (package config), compiled
// whenever it changes, and swapped in whole: a request sees the configuration with which it began from its first line to its
// last.
package balancer

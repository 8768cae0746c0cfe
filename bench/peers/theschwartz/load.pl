#!/usr/bin/perl
# The peer of the lines jobs-mariadb and jobs-sqlite: Perl's TheSchwartz at its best. Jobs are inserted a hundred in a
# transaction, connections are kept, and WORKERS processes do jobs that do nothing.
#
#   load.pl DSN USER JOBS WORKERS [SCHEMA-STATEMENT...]
#
# Prints the seconds that inserting and working took.
use strict;
use warnings;
use DBI;
use TheSchwartz;
use TheSchwartz::Worker;
use Time::HiRes 'time';

my ($dsn, $user, $jobs, $workers, @schema) = @ARGV;
if (@schema) {
    my $dbh = DBI->connect($dsn, $user, '', { RaiseError => 1 });
    $dbh->do($_) for @schema;
}

package Noop;
our @ISA = ('TheSchwartz::Worker');
sub work { $_[1]->completed }

package main;

sub client {
    return TheSchwartz->new(databases => [{ dsn => $dsn, user => $user, pass => '' }], driver_cache_expiration => 3600);
}

my $begun = time;
{
    my $client = client();
    for (my $left = $jobs; $left > 0; $left -= 100) {
        my $n = $left < 100 ? $left : 100;
        my @handles = $client->insert_jobs(map { TheSchwartz::Job->new(funcname => 'Noop', arg => '{"object":12345}') } 1 .. $n);
        die "not inserted" if @handles != $n;
    }
}
my $inserted = time;
my @pids;
for (1 .. $workers) {
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        my $client = client();
        $client->can_do('Noop');
        $client->work_until_done;
        exit 0;
    }
    push @pids, $pid;
}
for my $pid (@pids) {
    waitpid $pid, 0;
    die "a worker failed: $?" if $?;
}
printf "%.4f %.4f\n", $inserted - $begun, time - $inserted;
my $left = DBI->connect($dsn, $user, '', { RaiseError => 1 })->selectrow_array('SELECT count(*) FROM job');
die "$left jobs are left" if $left;

#!/usr/bin/perl
# Plays the part of a Perl program that uses TheSchwartz.
#
#   schwartz.pl DSN USER PREFIX make SCHEMA-FILE    make the tables
#   schwartz.pl DSN USER PREFIX insert              insert jobs of all kinds; prints "NAME ID"
#   schwartz.pl DSN USER PREFIX many N              insert N jobs of function both; prints nothing
#   schwartz.pl DSN USER PREFIX work FUNC...        work until nothing is left; prints what was done
#   schwartz.pl DSN USER PREFIX status ID...        prints what it knows of jobs
use strict;
use warnings;
use DBI;
use TheSchwartz;
use TheSchwartz::Worker;

$| = 1;
my ($dsn, $user, $prefix, $do, @args) = @ARGV;

if ($do eq 'make') {
    my $dbh = DBI->connect($dsn, $user, '', { RaiseError => 1 });
    local $/;
    open my $in, '<', $args[0] or die "$args[0]: $!";
    for my $statement (split /;\s*\n/, <$in>) {
        $dbh->do($statement) if $statement =~ /\S/;
    }
    exit;
}

my $client = TheSchwartz->new(
    databases               => [{ dsn => $dsn, user => $user, pass => '', prefix => $prefix }],
    driver_cache_expiration => 300,
    prioritize              => 1,
    verbose                 => 0,
);

sub id { my $h = shift; $h ? $h->as_string =~ s/.*-//r : 'none' }

package Tester;
our @ISA = ('TheSchwartz::Worker');

sub grab_for             {30}
sub keep_exit_status_for {3600}
sub max_retries          { $_[1]->funcname eq 'retry' ? 2 : 0 }
sub retry_delay          {0}

sub work {
    my ($class, $job) = @_;
    my $arg = $job->arg;
    my $text = ref $arg ? join(',', map {"$_=$arg->{$_}"} sort keys %$arg) : $arg;
    printf "%s %d %s\n", $job->funcname, $job->jobid, defined $text ? $text : 'undef';
    my $func = $job->funcname;
    return $job->failed("try again") if $func eq 'retry';
    return $job->permanent_failure("never", 42) if $func eq 'permanent';
    return $job->declined(time + 3600) if $func eq 'decline';
    die "ouch\n" if $func eq 'die';
    return $job->replace_with(TheSchwartz::Job->new(funcname => 'replacement', arg => "of $text")) if $func eq 'replace';
    if ($func eq 'coalesce') {
        while (my $more = $job->client->find_job_with_coalescing_value('coalesce', $job->coalesce)) {
            printf "coalesced %d %s\n", $more->jobid, $more->arg;
            $more->completed;
        }
    }
    $job->completed;
}

package main;

if ($do eq 'insert') {
    my @jobs = (
        string  => { arg => "plain \xff" },
        json    => { arg => '{"a":[1,2]}' },
        hash    => { arg => { to => 'bob', n => 3 } },
        unique  => { arg => 'u', uniqkey => 'same' },
        again   => { arg => 'u2', uniqkey => 'same' },
        urgent  => { arg => 'now', priority => 9 },
        later   => { arg => 'wait', run_after => time + 3600 },
        grouped => { arg => 'g', coalesce => 'host%1' },
        nothing => {},
    );
    while (my ($name, $fields) = splice @jobs, 0, 2) {
        print "$name ", id($client->insert(TheSchwartz::Job->new(funcname => 'fromperl', %$fields))), "\n";
    }
    print "batch ", id($_), "\n" for $client->insert_jobs(map { TheSchwartz::Job->new(funcname => 'batch', arg => $_) } 1 .. 3);
} elsif ($do eq 'many') {
    $client->insert('both', "perl/$_") or die "not inserted" for 1 .. $args[0];
} elsif ($do eq 'work') {
    # One class for each function, as TheSchwartz wants it.
    for my $func (@args) {
        no strict 'refs';
        @{"${func}::ISA"} = ('Tester');
        $client->can_do($func);
    }
    if ($args[0] eq 'both') {
        for (my $idle = 0; $idle < 20;) { # others are still inserting
            $idle = $client->work_once ? 0 : $idle + 1;
            select undef, undef, undef, 0.05 if $idle;
        }
    } else {
        $client->work_until_done;
    }
} elsif ($do eq 'status') {
    my $hash = ($client->insert('statusprobe', 'x')->as_string =~ s/-\d+$//r);
    for my $id (@args) {
        my $handle = $client->handle_from_string("$hash-$id");
        my $status = $handle->exit_status;
        printf "%d pending=%d status=%s failures=%d log=%s\n", $id, $handle->is_pending ? 1 : 0,
            defined $status ? $status : 'undef', scalar $handle->failures, join '|', $handle->failure_log;
    }
}

#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* place plain|md5|weighted HOST PORT WEIGHT ... < keys: where libmemcached puts each key, as the number of a server */
int main(int argc, char **argv) {
    memcached_st *m = memcached_create(NULL);
    int w = strcmp(argv[1], "weighted") == 0;
    memcached_return_t rc = memcached_behavior_set(m, w ? MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED : MEMCACHED_BEHAVIOR_KETAMA, 1);
    if (rc == MEMCACHED_SUCCESS && strcmp(argv[1], "md5") == 0)
        rc = memcached_behavior_set(m, MEMCACHED_BEHAVIOR_HASH, MEMCACHED_HASH_MD5);
    if (rc != MEMCACHED_SUCCESS) return 2;
    for (int i = 2; i + 2 < argc; i += 3) {
        if (argv[i][0] == '/') rc = memcached_server_add_unix_socket_with_weight(m, argv[i], atoi(argv[i+2]));
        else rc = memcached_server_add_with_weight(m, argv[i], atoi(argv[i+1]), atoi(argv[i+2]));
        if (rc != MEMCACHED_SUCCESS) return 3;
    }
    char line[512];
    while (fgets(line, sizeof line, stdin)) {
        size_t n = strcspn(line, "\n");
        printf("%u\n", memcached_generate_hash(m, line, n));
    }
    return 0;
}

export PATH=/pyoci/build:$PATH
cd /pyoci 2>/dev/null || :

from uuid import uuid4
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec, NewTopic
import time, pytest
def test_x(broker):
    for n in ("interleavings-"+uuid4().hex, "interleavings_"+uuid4().hex[:8]):
        b=broker
        b._admin.create_topics([NewTopic(n,2,1)])[n].result()
        t=time.monotonic()
        for i in range(60):
            w={TopicPartition(n,p): OffsetSpec.latest() for p in range(2)}
            e=[f.exception() for f in b._admin.list_offsets(w).values()]
            if not any(e): break
            time.sleep(.1)
        print(n,i,time.monotonic()-t,e)

"""What the Kafka client's error codes mean to those who read."""

from confluent_kafka import KafkaError

ACCESS = {
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError._SSL,
}  # fmt: skip
# The client looks for the coordinator of its group, of which we want nothing: who may read the topic needs no right to a group.
GROUP = {KafkaError.GROUP_AUTHORIZATION_FAILED}
MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
OUT_OF_RANGE = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}
